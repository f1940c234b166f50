"""Runs: train a preset, stop and resume, evaluate.

A run that was stopped or killed continues from its checkpoint, and ends with a φ that is bitwise identical to
that of an undisturbed run.

Verified by ``tests/experiments/test_runs.py``, ``tests/experiments/test_resumed_runs.py`` and
``tests/experiments/test_reliability.py``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from reptile_np.errors import UsageError, whole
from reptile_np.experiments import environment
from reptile_np.experiments.experiment import Experiment, make_experiment
from reptile_np.experiments.parallel import job_count, processes
from reptile_np.experiments.progress import Progress, Report, RunningMean, notice, notice_if_unfinished
from reptile_np.experiments.run_directory import RESULT, RunDirectory, SavedRun
from reptile_np.experiments.scores import Scores
from reptile_np.experiments.settings import differences, with_settings
from reptile_np.experiments.sitting import Sitting
from reptile_np.experiments.specs import Preset
from reptile_np.experiments.watching import watcher
from reptile_np.files import expanded
from reptile_np.meta.training import Step
from reptile_np.nn.ops import Ops
from reptile_np.tasks.image_cache import Split

__all__ = ["RECORDED_STEPS", "evaluate", "reopened", "train"]

RECORDED_STEPS = 200  # of a whole run
NOT_RECORDED = "this evaluation is not in its records: remove the cause, then evaluate again"


def train(
    preset: Preset,
    seed: int,
    ops: Ops,
    *,
    data: Path | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
    report: Report | None = None,
) -> dict[str, Any]:
    """Run a preset to its end and return the result, JSON-ready.

    A new run evaluates the untrained initialisation first, so that an evaluation that cannot work fails
    before the training.  A resumed run has passed this test already, and evaluates the untrained
    initialisation after the training.

    Parameters
    ----------
    preset, seed, ops
        What runs, the seed of all its random streams, and the table of kernels.
    data
        Folder of the images, for presets that read images (default: the folder that the run in `out` used;
        for a new run the imported cache).
    out
        The run's directory; None keeps nothing, not even the trained parameters.
    quiet
        Show no progress.
    report
        Called as ``report(job, done, total)`` after every outer step and every evaluation task, also if
        `quiet` is true.
    resume
        Continue the run in `out`, whose preset and seed must be the given ones.  Kernels of another
        instruction set round differently, and other versions may: they are accepted with a notice, and
        recorded.

    Returns
    -------
    dict
        ``outer_steps``; ``seconds`` of training over all sittings; the main scores (`Scores.headline`), for
        the trained state and, with the suffix ``_untrained``, for the initialisation.

    Raises
    ------
    UsageError
        For data, directories or settings that cannot be used, and for a run that diverges; nothing that
        was saved before is lost.
    KeyboardInterrupt
        On Ctrl-C, after the state has been saved.
    """
    seed = whole("seed", seed, 0)
    directory = RunDirectory(expanded(out)) if out is not None else None
    earlier: list[dict[str, Any]] = []
    with ExitStack() as stack:
        if resume:
            if directory is None:
                raise UsageError("--resume needs --out DIR, the directory of the run to continue")
            if other := differences(directory.config(), (preset, seed)):
                raise UsageError(f"--out {out}: was begun with {other}; give the same ones")
            stack.enter_context(directory.resume())
            earlier = directory.sittings()
            experiment, _ = reopened(preset, seed, ops, data, earlier)
        else:
            experiment = make_experiment(preset, seed, ops, data)
        experiment.check_training()
        experiment.check_evaluation(preset.evaluation, "test")
        untrained = step = experiment.start()
        images = experiment.episodes.images_sha256
        sitting = Sitting(directory, environment.describe(ops, images, experiment.data), earlier)
        if resume:
            step = sitting.resumed(untrained)
        elif directory is not None:
            stack.enter_context(directory.begin(preset, seed))
            sitting.record()
        score = partial(_evaluate, experiment, quiet, report)
        before = None if resume else score("untrained", untrained)
        step = _train(experiment, step, sitting, quiet, report)
        before = before or score("untrained", untrained)
        after = score("trained", step)
        result = {
            "outer_steps": step.done,
            "seconds": sitting.total_seconds(),
            **after.headline(""),
            **before.headline("_untrained"),
        }
        if directory is not None:
            directory.write_json(RESULT, result)
        return result


def evaluate(
    run: str | Path | SavedRun,
    ops: Ops,
    *,
    settings: Sequence[str] = (),
    data: Path | None = None,
    tasks: int = 10_000,
    shots: int | None = None,
    split: Split = "test",
    curve: bool = False,
    jobs: int | None = None,
    executor: Executor | None = None,
    quiet: bool = False,
    report: Report | None = None,
) -> dict[str, Any]:
    """Evaluate the checkpoint of a run, JSON-ready; the result is added to the run's records.

    Parameters
    ----------
    run
        The directory of a run, or what can be read like one.
    ops
        The table of kernels.
    data
        The folder of the images (default: that of the run's training).
    tasks, shots, split
        The number of tasks, the examples per class (default: the preset's), and the split whose classes are
        used.
    settings
        "tasks.source=folder", to evaluate on a folder of other images, `data`; nothing else can be changed.
    curve
        Whether to record the accuracy, or the error, after 0, 1, 2, … inner steps too.
    jobs
        Processes of one thread each (default: every core that the tasks keep busy); 1 runs in this process.
        The result is the same for any number.  Processes are spawned: a script needs
        ``if __name__ == "__main__":``.
    executor
        Any `concurrent.futures.Executor` instead of `jobs` processes.
    quiet, report
        As for `train`.

    Returns
    -------
    dict
        ``preset``, ``seed``, ``outer_steps``, ``split``, ``tasks``, ``shots``, ``ways`` (of images);
        ``other_images``, true, if they are not those of the training; and what `Scores.to_json` returns.

    Raises
    ------
    UsageError
        If there is no run, no checkpoint, or the data cannot give such tasks.
    """
    tasks, shots = whole("tasks", tasks, 1), None if shots is None else whole("shots", shots, 1)
    directory = RunDirectory(expanded(run)) if isinstance(run, str | os.PathLike) else run
    preset, seed = directory.config()
    trained_on = preset.tasks.source
    preset = _with_other_images(preset, settings)
    asked_for_others = preset.tasks.source != trained_on  # whose classes are not those of training
    spec = replace(preset.evaluation, tasks=tasks, shots=preset.evaluation.shots if shots is None else shots)
    sittings = [] if asked_for_others else directory.sittings()
    experiment, others = reopened(preset, seed, ops, data, sittings)
    experiment.check_evaluation(spec, split)
    step = directory.load(experiment.start())
    notice_if_unfinished(preset.name, step.done, preset.outer.steps)
    if others:
        notice(f"{preset.name}: {environment.TESTED_ON_OTHERS}")
    with ExitStack() as stack:
        if executor is None:
            executor = stack.enter_context(processes(job_count(jobs, tasks)))
        progress = Progress("evaluate", tasks, quiet=quiet, report=report).over
        scores = experiment.evaluate(step, spec, split, curve=curve, executor=executor, progress=progress)
    result = {
        "preset": preset.name,
        "seed": seed,
        "outer_steps": step.done,
        "split": split,
        "tasks": tasks,
        "shots": spec.shots,
        **({} if trained_on == "sine" else {"ways": preset.tasks.ways}),
        **({"other_images": True} if others or asked_for_others else {}),
        **scores.to_json(),
    }
    try:
        directory.append({"outer_step": step.done, "evaluation": result}, NOT_RECORDED)
    except UsageError as error:
        notice(str(error))
    return result


def reopened(
    preset: Preset, seed: int, ops: Ops, data: Path | None, sittings: Sequence[Mapping[str, Any]]
) -> tuple[Experiment, bool]:
    """Return the experiment of a run that has these sittings, and whether it was trained on other images.

    `data` is a given folder; without it, the images are read where the last sitting read them.

    Raises
    ------
    UsageError
        As `make_experiment`; if the images are not where the run read them, the message says so.
    """
    folder = environment.data_folder(data, sittings)
    try:
        experiment = make_experiment(preset, seed, ops, folder)
    except UsageError as error:
        recorded = sittings[-1].get("data") if sittings and folder is None else None
        if recorded is None:
            raise
        gone = f"the run's images were in {recorded}, which is not there now: give their folder with --data"
        raise UsageError(f"{error}; {gone}") from None
    return experiment, environment.other_images(sittings, experiment.episodes.images_sha256)


def _with_other_images(preset: Preset, settings: Sequence[str]) -> Preset:
    """Return the preset of an evaluation; "tasks.source=folder" is the only setting that it takes."""
    changed = with_settings(preset, settings)
    for setting in settings:
        if setting.partition("=")[0] != "tasks.source":
            raise UsageError(f"--set {setting}: an evaluation changes tasks.source only")
    if preset.tasks.invert and changed.tasks.source != preset.tasks.source:
        raise UsageError("--set tasks.source: the run's images were inverted, and those of a folder are not")
    return changed


def _train(experiment: Experiment, step: Step, sitting: Sitting, quiet: bool, report: Report | None) -> Step:
    """Run the outer steps that are left; record, save, and show them."""
    preset, total = experiment.preset, experiment.preset.outer.steps
    every = max(total // RECORDED_STEPS, 1)
    first, last = RunningMean(), RunningMean()
    watched = watcher(experiment)
    sitting.begin(step)
    if step.done >= total:
        return step
    progress = Progress(f"train {preset.name}", total, step.done, quiet, report)
    try:
        for done in experiment.outer_steps(step):
            first_loss, last_loss = done.first_loss, done.last_loss
            assert first_loss is not None
            assert last_loss is not None
            if sitting.directory:
                if done.done % every == 0 or done.done == total:
                    losses = {"first_loss": first_loss, "last_loss": last_loss}
                    sitting.directory.append({"outer_step": done.done, **losses})
                if record := watched(done):
                    sitting.directory.append(record)
            step = done  # only now: a step that is interrupted earlier is made and recorded again
            note = f"loss {first.add(first_loss):.3f} → {last.add(last_loss):.3f}"
            progress.update(step.done, note)
            sitting.save_if_due(step)
        sitting.save(step)
    except KeyboardInterrupt:
        sitting.save(step)
        raise
    finally:
        progress.close()
    return step


def _evaluate(experiment: Experiment, quiet: bool, report: Report | None, what: str, step: Step) -> Scores:
    tasks = experiment.preset.evaluation.tasks
    progress = Progress(f"evaluate {what}", tasks, quiet=quiet, report=report)
    return experiment.evaluate(step, progress=progress.over)
