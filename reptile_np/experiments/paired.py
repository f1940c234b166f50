"""Two initialisations on the same test tasks: the difference of their accuracies, with its 95 % interval.

The difference is taken task by task, so that the difficulty of a task cancels out.

Verified by ``tests/experiments/test_paired.py``.
"""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reptile_np.errors import UsageError, whole
from reptile_np.experiments.environment import TESTED_ON_OTHERS
from reptile_np.experiments.parallel import job_count, processes
from reptile_np.experiments.progress import Progress, notice, notice_if_unfinished
from reptile_np.experiments.run_directory import RunDirectory, SavedRun
from reptile_np.experiments.runs import reopened
from reptile_np.experiments.scores import ClassificationScores
from reptile_np.experiments.specs import Preset
from reptile_np.files import expanded
from reptile_np.meta.inner_loop import Array
from reptile_np.nn.ops import Ops
from reptile_np.tasks.image_cache import Split

__all__ = ["compare"]


def compare(
    runs: tuple[str | Path | SavedRun, str | Path | SavedRun],
    ops: Ops,
    *,
    data: Path | None = None,
    tasks: int = 10_000,
    shots: int | None = None,
    split: Split = "test",
    jobs: int | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Evaluate two runs on the same tasks, each fine-tuned as its preset says; JSON-ready.

    Parameters
    ----------
    runs
        A and B: run directories, or released weights.
    shots
        Default: those of A's preset.
    data, tasks, split, jobs, quiet
        As for `runs.evaluate`.

    Returns
    -------
    dict
        For A and B their accuracies; ``difference``: mode → {mean, ci95} of A's fraction minus B's over the
        tasks.  ``ci95`` is None for one task.  Otherwise it is the larger of half of the normal interval and
        s (1 + |d|).  Here d is the median difference, and s = 1 - 0.05^(1 / tasks): if a share s of all tasks
        had a difference other than d, the probability that none of them is drawn would be 5 %. Any difference
        is at most 1 + |d| away from d.  (If all tasks that were drawn have the difference d, the normal
        interval has the width 0.)  If few tasks have a difference, each of nearly 1 and of the same sign,
        ``ci95`` covers less than 95 %: 88 % if 5 tasks of 100 are expected to differ.

    Raises
    ------
    UsageError
        If the runs do not have the same seed, source, images and kind of tasks: their test classes and tasks
        would differ.
    """
    tasks, shots = whole("tasks", tasks, 1), None if shots is None else whole("shots", shots, 1)
    saved = [RunDirectory(expanded(run)) if isinstance(run, str | os.PathLike) else run for run in runs]
    (first, seed), (second, other_seed) = configs = [run.config() for run in saved]
    if first.tasks.source == "sine":
        raise UsageError(f"--compare: {first.name} is not a classifier")
    kinds = [_what_is_drawn(preset, split) for preset, _ in configs]
    if kinds[0] != kinds[1] or seed != other_seed:
        raise UsageError(
            f"--compare: {first.name} with seed {seed} and {second.name} with seed {other_seed} do not have "
            "the same test tasks; compare runs of one seed, source, and numbers of ways and queries"
        )
    shots = first.evaluation.shots if shots is None else shots
    made = []  # both, before the first is evaluated: an error about the second is reported at once
    for name, run, (preset, _) in zip("AB", saved, configs, strict=True):
        spec = replace(preset.evaluation, tasks=tasks, shots=shots)
        experiment, others = reopened(preset, seed, ops, data, run.sittings())
        experiment.check_evaluation(spec, split)
        if others:
            notice(f"{name}: {TESTED_ON_OTHERS}")
        step = run.load(experiment.start())
        notice_if_unfinished(name, step.done, preset.outer.steps)
        made.append((name, experiment, spec, step))
    if len({experiment.episodes.images_sha256 for _, experiment, _, _ in made}) > 1:
        raise UsageError("--compare: the two runs read different images; give one folder with --data")
    fractions, result = [], {"split": split, "tasks": tasks, "shots": shots, "ways": first.tasks.ways}
    with processes(job_count(jobs, tasks)) as executor:
        for name, experiment, spec, step in made:
            progress = Progress(f"evaluate {name}", tasks, quiet=quiet).over
            scores = experiment.evaluate(step, spec, split, executor=executor, progress=progress)
            assert isinstance(scores, ClassificationScores)
            about = {"preset": experiment.preset.name, "seed": seed, "outer_steps": step.done}
            result[name.lower()] = {**about, **scores.to_json()}  # type: ignore[assignment]
            fractions.append({mode: accuracy.fractions for mode, accuracy in scores.accuracy.items()})
    difference = {}
    for mode in fractions[0]:
        d = fractions[0][mode] - fractions[1][mode]
        difference[mode] = {"mean": float(d.mean()), "ci95": _ci95(d)}
    return {**result, "difference": difference}


def _ci95(d: Array) -> float | None:
    """Return half of the interval of the mean of differences (tasks,), as `compare` says."""
    tasks = len(d)
    if tasks == 1:
        return None
    share = 1 - 0.05 ** (1 / tasks)
    return max(1.96 * float(d.std(ddof=1)) / math.sqrt(tasks), share * (1 + abs(float(np.median(d)))))


def _what_is_drawn(preset: Preset, split: Split) -> tuple[Any, ...]:
    """Return what decides, for one seed and number of shots, the classes and the tasks of an evaluation."""
    tasks = preset.tasks
    classes = tasks.source, tasks.classes, 0 if split == "test" else tasks.train_classes
    return *classes, tasks.images, tasks.ways, tasks.turn, preset.evaluation.queries
