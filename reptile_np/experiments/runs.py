"""A run and its directory: train, checkpoint, record, resume, evaluate.

    DIR/config.json       the preset as it ran, the seed, the version; held while a run is at work
    DIR/checkpoint.npz    the state after the last saved outer step; replaced atomically
    DIR/records.jsonl     one line per logged outer step, and one per evaluation
    DIR/result.json       the scores, once the run is done

A run that was killed goes on from its checkpoint and ends with the same φ, to the bit.
Verified by ``tests/experiments/test_runs.py``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import reptile_np
from reptile_np.errors import UsageError
from reptile_np.experiments import presets, problems
from reptile_np.experiments.checkpoints import load_step, save_step
from reptile_np.experiments.presets import Preset
from reptile_np.experiments.problems import Problem, Scores
from reptile_np.experiments.progress import Progress, RunningMean
from reptile_np.experiments.streams import Streams
from reptile_np.files import held, replacing
from reptile_np.meta.training import Step, begin, meta_train
from reptile_np.nn.ops import Ops

SAVE_EVERY = 30.0  # seconds between checkpoints
RECORDS = 200  # lines that a whole run writes


@dataclass(frozen=True)
class RunDirectory:
    """The files of one run."""

    path: Path

    @property
    def checkpoint(self) -> Path:
        """Where the state is."""
        return self.path / "checkpoint.npz"

    @property
    def records(self) -> Path:
        """Where the lines are."""
        return self.path / "records.jsonl"

    def create(self, preset: Preset, seed: int) -> None:
        """Make the directory and say what runs in it.

        Raises
        ------
        UsageError
            If it exists and is not empty: nothing is ever overwritten.
        """
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise UsageError(f"--out {self.path}: exists; choose another, or go on with --resume")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.write_json(
                "config.json",
                {"preset": presets.to_json(preset), "seed": seed, "version": reptile_np.__version__},
            )
        except OSError as error:
            raise UsageError(f"--out {self.path}: cannot be written ({error.strerror})") from None

    def config(self) -> tuple[Preset, int]:
        """Return the preset and the seed of the run.

        Raises
        ------
        UsageError
            If there is no run here, or its config.json is not whole.
        """
        path = self.path / "config.json"
        try:
            values = json.loads(path.read_text())
            return presets.from_json(values["preset"]), int(values["seed"])
        except OSError:
            raise UsageError(f"{self.path}: no run here (no config.json); train with --out first") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UsageError(f"{path}: not a whole config.json; start again in a new --out") from None

    @contextmanager
    def occupied(self) -> Iterator[None]:
        """Keep other runs out, until this one ends or is killed.

        Raises
        ------
        UsageError
            If another run is at work here.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(held(self.path / "config.json"))
            except BlockingIOError:
                raise UsageError(
                    f"--out {self.path}: another run is at work there; wait for it or stop it"
                ) from None
            yield

    def append(self, record: dict[str, Any]) -> None:
        """Add one line to the records."""
        with self.records.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def forget_after(self, done: int) -> None:
        """Drop the records of outer steps that the checkpoint does not have; they will be made again."""
        if not self.records.exists():
            return
        kept = [line for line in self.records.read_text().splitlines() if _step_of(line) <= done]
        text = "".join(line + "\n" for line in kept)
        with replacing(self.records) as file:
            file.write(text.encode())

    def write_json(self, name: str, values: dict[str, Any]) -> None:
        """Write one JSON file, whole or not at all."""
        text = json.dumps(values, indent=2) + "\n"
        with replacing(self.path / name) as file:
            file.write(text.encode())


def _step_of(line: str) -> float:
    """Return the outer step of a record; a line cut short by a kill belongs to none."""
    try:
        return float(json.loads(line)["outer_step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def initial_step(problem: Problem, preset: Preset, streams: Streams) -> Step:
    """Return the state of a run before its first outer step."""
    phi = problem.model.init(streams.rng("init"))
    return begin(phi, problems.inner_optimizer(preset), problems.outer_optimizer(preset)(0))


def outer_steps(problem: Problem, preset: Preset, start: Step) -> Iterator[Step]:
    """Yield the outer steps of a preset from `start` on: `meta_train` with the preset's values."""
    outer = preset.outer
    return meta_train(
        problem.model,
        start,
        problem.episode,
        meta_gradient=problems.meta_gradient(preset, problem.model),
        inner=problems.inner_optimizer(preset),
        outer=problems.outer_optimizer(preset),
        outer_steps=outer.steps,
        meta_batch=outer.meta_batch,
        keep=problems.KEEP[preset.algorithm],
    )


def train(
    preset: Preset,
    seed: int,
    ops: Ops,
    *,
    data: Path | None = None,
    out: Path | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Scores:
    """Run a preset to its end and return the result, JSON-ready.

    Parameters
    ----------
    out
        The run's directory; None keeps nothing.
    resume
        Go on in `out`; preset and seed are then the directory's own, and must be the given ones.

    Raises
    ------
    UsageError
        For data, directories or settings that cannot be used; nothing is overwritten.
    KeyboardInterrupt
        On Ctrl-C, after the state has been saved.
    """
    directory = RunDirectory(out) if out else None
    if resume:
        if directory is None:
            raise UsageError("--resume needs --out DIR, the directory of the run to go on with")
        if directory.config() != (preset, seed):
            raise UsageError(f"--out {out}: was begun with other settings or another seed; use those")
    streams = Streams(seed)
    problem = problems.bind(preset, streams, ops, data)
    untrained = step = initial_step(problem, preset, streams)
    if directory is not None and not resume:
        directory.create(preset, seed)
    with directory.occupied() if directory is not None else nullcontext():
        if directory is not None and resume:
            if directory.checkpoint.exists():
                step = load_step(directory.checkpoint, step)
            directory.forget_after(step.done)

        began = time.monotonic()
        step = _train(problem, preset, step, directory, quiet)
        seconds = time.monotonic() - began

        scores = {
            name: problem.scores(
                point.phi,
                point.inner_state,
                preset.evaluation,
                progress=Progress(f"evaluate {name}", preset.evaluation.tasks, quiet=quiet).over,
            )
            for name, point in (("trained", step), ("untrained", untrained))
        }
        result = {"outer_steps": step.done, "seconds": seconds, **_headline(scores)}
        if directory is not None:
            directory.write_json("result.json", result)
        return result


def _train(
    problem: Problem, preset: Preset, step: Step, directory: RunDirectory | None, quiet: bool
) -> Step:
    """Run the outer steps that are left; record, save, and show them."""
    total = preset.outer.steps
    every = max(total // RECORDS, 1)
    progress = Progress(f"train {preset.name}", total, step.done, quiet)
    first, last = RunningMean(), RunningMean()
    saved = time.monotonic()
    try:
        for done in outer_steps(problem, preset, step):
            step = done
            assert step.first_loss is not None
            assert step.last_loss is not None
            note = f"loss {first.add(step.first_loss):.3f} → {last.add(step.last_loss):.3f}"
            progress.update(step.done, note)
            if directory is None:
                continue
            if step.done % every == 0 or step.done == total:
                losses = {"first_loss": step.first_loss, "last_loss": step.last_loss}
                directory.append({"outer_step": step.done, **losses})
            if time.monotonic() - saved > SAVE_EVERY or step.done == total:
                save_step(directory.checkpoint, step)
                saved = time.monotonic()
    except KeyboardInterrupt:
        if directory is not None:
            save_step(directory.checkpoint, step)
        raise
    finally:
        progress.close()
    return step


def _headline(scores: dict[str, Scores]) -> Scores:
    """Return the contract's keys: `accuracy…` as fractions per mode, or `error…` for a regression."""
    headline: Scores = {}
    for suffix, name in (("", "trained"), ("_untrained", "untrained")):
        values = scores[name]
        if "error" in values:
            headline.update({f"{key}{suffix}": value for key, value in values.items()})
        else:
            headline[f"accuracy{suffix}"] = {mode: value["mean"] for mode, value in values.items()}
            headline[f"ci95{suffix}"] = {mode: value["ci95"] for mode, value in values.items()}
    return headline


def evaluate(
    path: Path,
    ops: Ops,
    *,
    data: Path | None = None,
    tasks: int = 10_000,
    shots: int | None = None,
    split: str = "test",
    quiet: bool = False,
) -> Scores:
    """Evaluate the checkpoint of a run in both modes, JSON-ready; the result is added to its records.

    Raises
    ------
    UsageError
        If there is no run, or no checkpoint, in `path`.
    """
    directory = RunDirectory(path)
    preset, seed = directory.config()
    streams = Streams(seed)
    problem = problems.bind(preset, streams, ops, data)
    step = load_step(directory.checkpoint, initial_step(problem, preset, streams))
    spec = replace(preset.evaluation, tasks=tasks, shots=shots or preset.evaluation.shots)
    progress = Progress("evaluate", tasks, quiet=quiet).over
    scores = problem.scores(step.phi, step.inner_state, spec, split, progress=progress)
    result = {
        "preset": preset.name,
        "seed": seed,
        "outer_steps": step.done,
        "split": split,
        "tasks": tasks,
        "shots": spec.shots,
        "ways": preset.tasks.ways,
        **({"accuracy": scores} if "error" not in scores else scores),
    }
    directory.append({"outer_step": step.done, "evaluation": result})
    return result
