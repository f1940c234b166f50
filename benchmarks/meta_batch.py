"""A meta-batch of exact MAML on several cores: tasks in threads, against threads inside the kernels.

    python benchmarks/meta_batch.py [--threads 2] [--tasks 32] [--seconds 20] [--network conv|finn-omniglot]

times an outer step, sampling and outer update included, for 1 and 5 inner steps of SGD.  A task has 5 + 5
images, of glyphs, so that nothing has to be downloaded.  The ways are interleaved, and the least time of each
counts:

    one core          kernels of one thread, one task after another
    tasks in threads  what ``train --threads N`` does: N tasks at a time, kernels of one thread
    kernel threads    one task after another, N threads inside the kernels
    executor alone    the tasks in one thread of an executor: what the executor itself costs

All ways must give bitwise identical parameters.  "Python" is the share of the time on one core that is spent
outside of the methods that call C (`NetworkCalls`); the true share is a little larger.  Only one thread at a
time can run Python, so N threads cannot be faster than 1 / Python times one core.  "Separate processes": N
processes that share nothing do all of the tasks each, at the same time.  The number is their work per second,
divided by that of one such process alone (medians).  It shows what the cores allow.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from statistics import median
from typing import Any

from reptile_np.experiments import presets
from reptile_np.experiments.backend import choose_ops
from reptile_np.experiments.experiment import Experiment, make_experiment
from reptile_np.meta.inner_loop import Array
from reptile_np.meta.meta_gradients import maml
from reptile_np.meta.training import Step, meta_train
from reptile_np.nn.native.calls import NetworkCalls

CALLS = ("loop", "hvp", "update")


def experiment(network: Any, steps: int, tasks: int, threads: int) -> Experiment:
    """Return exact MAML on glyphs, with that many inner steps and tasks."""
    preset = presets.get("maml-omniglot-5way-1shot")
    fixed = preset.inner.fixed if network == preset.network else ""
    return make_experiment(
        replace(
            preset,
            network=network,
            tasks=replace(preset.tasks, source="glyphs", classes=500, invert=False, train_classes=0),
            inner=replace(preset.inner, steps=steps, fixed=fixed, learning_rate=0.1),
            outer=replace(preset.outer, meta_batch=tasks),
        ),
        0,
        choose_ops("auto", threads),
    )


def one_step(made: Experiment, start: Step, executor: Executor | None = None) -> Array:
    """Take one outer step with the experiment's kernels, whatever `Experiment.task_threads` says."""
    steps = meta_train(
        made.model,
        start,
        made.episodes.training,
        meta_gradient=maml(made.model, made.inner),
        inner=made.inner,
        outer=made.outer,
        keep="hessians",
        outer_steps=1,
        meta_batch=made.preset.outer.meta_batch,
        executor=executor,
    )
    return next(steps).phi


def least_times(alone: Experiment, shared: Experiment, seconds: float) -> dict[str, float]:
    """Return the least seconds of an outer step, for each way."""
    with ThreadPoolExecutor(shared.task_threads) as many, ThreadPoolExecutor(1) as single:
        start = alone.start()
        ways: dict[str, Callable[[], Array]] = {
            "one core": lambda: one_step(alone, start),
            "tasks in threads": lambda: one_step(alone, start, many),
            "kernel threads": lambda: one_step(shared, start),
            "executor alone": lambda: one_step(alone, start, single),
        }
        expected, least = one_step(alone, start), dict.fromkeys(ways, float("inf"))
        assert (next(shared.outer_steps(start)).phi == expected).all(), "train: other parameters"
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for name, way in ways.items():
                for _ in range(3):  # the first one after a pause is slow: its threads may share a core
                    begin = time.perf_counter()
                    phi = way()
                    least[name] = min(least[name], time.perf_counter() - begin)
                    assert (phi == expected).all(), f"{name}: other parameters than on one core"
    return least


def median_alone(network: Any, steps: int, tasks: int, seconds: float) -> float:
    """Return the median seconds of an outer step on one core."""
    made, times = experiment(network, steps, tasks, 1), []
    start = made.start()
    one_step(made, start)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begin = time.perf_counter()
        one_step(made, start)
        times.append(time.perf_counter() - begin)
    return median(times)


def separate_processes(network: Any, steps: int, tasks: int, seconds: float, processes: int) -> float:
    """Return the work that so many processes do in a given time, divided by that of one process alone."""
    arguments = network, steps, tasks, seconds
    with ProcessPoolExecutor(processes, get_context("spawn")) as executor:
        alone = executor.submit(median_alone, *arguments).result()
        together = [executor.submit(median_alone, *arguments) for _ in range(processes)]
        return sum(alone / future.result() for future in together)


def python_share(made: Experiment) -> float:
    """Return the least share of an outer step on one core that is outside of the calls of `NetworkCalls`."""
    inside = 0.0

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            nonlocal inside
            begin = time.perf_counter()
            result = method(*args)
            inside += time.perf_counter() - begin
            return result

        return call

    originals = {name: getattr(NetworkCalls, name) for name in CALLS}
    shares, start = [], made.start()
    try:
        for name, method in originals.items():
            setattr(NetworkCalls, name, timed(method))
        for _ in range(10):
            inside, begin = 0.0, time.perf_counter()
            one_step(made, start)
            shares.append(1 - inside / (time.perf_counter() - begin))
    finally:
        for name, method in originals.items():
            setattr(NetworkCalls, name, method)
    return min(shares)


def main() -> None:
    """Measure, and print a table for each number of inner steps."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tasks", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each number of inner steps")
    parser.add_argument("--network", choices=("conv", "finn-omniglot"), default="conv")
    args = parser.parse_args()
    for steps in (1, 5):
        alone, shared = (experiment(args.network, steps, args.tasks, n) for n in (1, args.threads))
        least = least_times(alone, shared, args.seconds)
        print(f"K = {steps}, {args.tasks} tasks, {args.threads} threads; {alone.model.kernels}")
        for name, seconds in least.items():
            print(f"  {name:18} {1e3 * seconds:8.2f} ms  {least['one core'] / seconds:5.2f} x one core")
        speedup = separate_processes(args.network, steps, args.tasks, args.seconds / 4, args.threads)
        print(f"  {'separate processes':18} {'':11}  {speedup:5.2f} x one core")
        print(f"  Python {python_share(alone):6.1%}", flush=True)


if __name__ == "__main__":
    main()
