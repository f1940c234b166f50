"""How much the choice of the test characters alone moves a test accuracy.

    python benchmarks/split_share.py RUN|pretrained:NAME [--tasks 10000] [--data DIR]

The paper's 95 % interval counts the random tasks only.  The test characters are random too: each seed draws
other ones.  A task has N of them (N = 5 in 5-way), so the mean accuracy over all tasks of C test characters
is a U-statistic, whose variance over draws of the characters is, but for terms in 1/C² (Hoeffding, 1948),

    N² / C · Var(h(c)) · ((C - 1) / (C - N))² · (1 - C / P),    h(c): the mean accuracy of the tasks with c.

The third factor is 1 but for small C: the other characters of a task with c are drawn without c.  The fourth
is that of draws without replacement from P characters (Omniglot: C = 423, P = 1,623).  h(c) is estimated from
the tasks of one evaluation, and the variance of its estimate is subtracted.  This is one part of what differs
between seeds: the others are the training characters, and the run itself.

Verified by ``tests/bench/test_split_share.py``.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reptile_np.experiments.backend import choose_ops
from reptile_np.experiments.episodes import FewShotEpisodes
from reptile_np.experiments.experiment import make_experiment
from reptile_np.meta.evaluation import accuracy, evaluate
from reptile_np.meta.inner_loop import Array
from reptile_np.pretrained import saved_run
from reptile_np.tasks.image_classes import ImageClasses


def spread_over_splits(classes: Array, fractions: Array, population: float = math.inf) -> float:
    """Return the standard deviation of the mean accuracy over draws of the test classes.

    Parameters
    ----------
    classes : (tasks, N) int
        The classes of each task.
    fractions : (tasks,)
        The accuracy of each task.
    population
        The number of classes from which the test classes are drawn.
    """
    ways = classes.shape[1]
    flat, values = classes.ravel(), np.repeat(fractions, ways)
    count = np.bincount(flat)
    there = count > 1
    mean = np.bincount(flat, values)[there] / count[there]
    square = np.bincount(flat, values**2)[there] / count[there]
    noise = (square - mean**2) / (count[there] - 1)
    drawn = int(there.sum())
    shrink = (drawn - ways) / (drawn - 1) if drawn > ways else 1.0
    variance = mean.var(ddof=1) - shrink * noise.mean()  # the noises of one task's classes are the same
    return float(ways * np.sqrt(max(variance, 0.0) / drawn * (1 - drawn / population)) / shrink)


def population(episodes: FewShotEpisodes) -> int:
    """Return the number of classes from which the test classes were drawn, without rotated copies."""
    tasks = episodes.preset.tasks
    rotations = 4 if tasks.source == "omniglot" and not tasks.train_classes else 1
    return len(episodes.train) // rotations + len(episodes.validation or ()) + len(episodes.test)


class Recorded:
    """Image classes that remember in which order their classes were read."""

    def __init__(self, classes: ImageClasses) -> None:
        self._classes, self.read = classes, list[int]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._classes, name)

    def __len__(self) -> int:
        return len(self._classes)

    def pixels(self, c: int, indices: Any) -> Array:
        """Return images of class c."""
        self.read.append(c)
        return self._classes.pixels(c, indices)


def main() -> None:
    """Evaluate, and print the spread for 1 and 5 shots in both modes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run")
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--data", type=Path)
    args = parser.parse_args()
    run = saved_run(args.run)
    made = make_experiment(*run.config(), choose_ops("auto", 1), args.data)
    point = run.load(made.start())
    if not isinstance(made.episodes, FewShotEpisodes):
        raise SystemExit(f"{args.run}: sine waves have no test classes; give a run of images")
    for shots in (1, 5):
        test = Recorded(made.episodes.test)
        episodes = replace(made.episodes, test=test)
        spec = replace(made.preset.evaluation, shots=shots)
        scores = evaluate(
            made.model,
            made.inner,
            point.phi,
            point.inner_state,
            lambda i, episodes=episodes, spec=spec: episodes.evaluation(spec, "test", i),
            args.tasks,
            score=accuracy,
        )
        classes = np.array(test.read).reshape(args.tasks, made.preset.tasks.ways)
        for mode, fractions in scores.items():
            spread = spread_over_splits(classes, fractions, population(made.episodes))
            print(
                f"{shots}-shot {mode:17} {100 * fractions.mean():6.2f} %, over draws of the {len(test)} test "
                f"classes ± {196 * spread:.2f} (95 %), over tasks ± "
                f"{196 * fractions.std(ddof=1) / args.tasks**0.5:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
