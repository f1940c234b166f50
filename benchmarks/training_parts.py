"""What training costs beside its inner loops: drawing tasks, the outer update, and Python itself.

    python benchmarks/training_parts.py mini-imagenet-5way [--data DIR] [--outer-steps 60] [--threads 1]

trains for some outer steps and prints, for each part, the median and the least milliseconds of an outer step:

    inner loops     the calls of C that run them
    drawing         `Episodes.training`: classes and images are drawn and read, minibatches cut
    outer update    the outer optimiser's step
    all             the whole outer step

and how much longer training takes than its inner loops alone: all / inner loops - 1, its median over the
outer steps.  The first fifth of the outer steps does not count.  The preset must be of Reptile on images.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

from reptile_np.cli.arguments import positive
from reptile_np.experiments import presets
from reptile_np.experiments.backend import choose_ops
from reptile_np.experiments.experiment import make_experiment
from reptile_np.meta import training
from reptile_np.nn.native.calls import NetworkCalls

PARTS = ("inner loops", "drawing", "outer update", "all")


def seconds_of_parts(
    preset: presets.Preset, data: Path | None, outer_steps: int, threads: int
) -> list[dict[str, float]]:
    """Return the seconds of each part, for every outer step."""
    made = make_experiment(preset, 0, choose_ops("auto", threads), data)
    if made.task_threads > 1:
        raise SystemExit(
            "training_parts.py: tasks run at the same time if the inner optimiser is SGD; give --threads 1"
        )
    seconds: dict[str, float] = defaultdict(float)

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            begin = time.perf_counter()
            result = function(*args, **more)
            seconds[part] += time.perf_counter() - begin
            return result

        return call

    made = replace(made, episodes=mock.Mock(training=timed("drawing", made.episodes.training)))
    rows = []
    with (
        mock.patch.object(NetworkCalls, "loop", timed("inner loops", NetworkCalls.loop)),
        mock.patch.object(training, "optimizer_step", timed("outer update", training.optimizer_step)),
    ):
        begin = time.perf_counter()
        for _ in islice(made.outer_steps(made.start()), outer_steps):
            rows.append({**seconds, "all": time.perf_counter() - begin})
            seconds.clear()
            begin = time.perf_counter()
    return rows


def main() -> None:
    """Measure, and print the parts and the share."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("preset", choices=sorted(presets.PRESETS), metavar="PRESET")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--outer-steps", type=positive, default=60)
    parser.add_argument("--threads", type=positive, default=1)
    args = parser.parse_args()
    preset = presets.get(args.preset)
    if preset.algorithm != "reptile" or preset.tasks.source == "sine":
        parser.error(f"{args.preset}: does not train Reptile on images; choose a preset that does")
    rows = seconds_of_parts(preset, args.data, args.outer_steps, args.threads)
    if "inner loops" not in rows[0]:
        parser.error("C runs no inner loops here; reptile-np list says which kernels there are, or why not")
    rows = rows[len(rows) // 5 :]
    for part in PARTS:
        milliseconds = [1e3 * row[part] for row in rows]
        print(f"{part:13} median {median(milliseconds):8.3f} ms   least {min(milliseconds):8.3f} ms")
    shares = [row["all"] / row["inner loops"] - 1 for row in rows]
    print(f"not an inner loop: {median(shares):.1%} of the inner loops' time (median)")


if __name__ == "__main__":
    main()
