"""The command `reproduce`: the runs and evaluations of a table or figure, then their comparison.

Verified by ``tests/cli/test_reproducing.py``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from reptile_np.cli import signals
from reptile_np.cli.arguments import (
    OPS,
    Commands,
    add_json,
    as_words,
    file_to_write,
    not_empty,
    one_blas_thread,
    path,
    positive,
    write_shown,
)
from reptile_np.cli.status import Status
from reptile_np.cli.terminal import BOLD, command_line, note, paint, show, show_json
from reptile_np.errors import UsageError

__all__ = ["add_to"]

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from reptile_np.experiments.reproduction import PlannedRun


def add_to(commands: Commands) -> None:
    """Add the command."""
    reproduce = commands.add(
        "reproduce",
        _reproduce,
        "do the runs of a table or figure, and compare them with the paper",
        stopped=_stopped,
    )
    reproduce.more = _targets
    reproduce.add_argument("target", help="a table, a figure or a comparison: see the list below")
    reproduce.add_argument(
        "--seeds", type=_seeds, default=(0, 1, 2), help="seeds, with commas between them (default: 0,1,2)"
    )
    reproduce.add_argument(
        "--only", type=not_empty, metavar="GLOB", help="only the presets whose names match, such as '*-5way'"
    )
    reproduce.add_argument(
        "--tasks",
        type=positive,
        help="test tasks of each evaluation (default: 10,000 for the paper's tables)",
    )
    reproduce.add_argument(
        "--jobs", type=positive, help="number of runs at a time (default: one for each core)"
    )
    reproduce.add_argument(
        "--executor", metavar="dask:ADDRESS", help="use the workers of a Dask cluster instead of this machine"
    )
    reproduce.add_argument(
        "--out", type=path, default=Path("runs"), metavar="DIR", help="folder of the runs (default: runs)"
    )
    reproduce.add_argument(
        "--dry-run", action="store_true", help="run nothing; print what would run, and for how long"
    )
    reproduce.add_argument(
        "--table", action="store_true", help="run nothing; print the table of the finished runs"
    )
    reproduce.add_argument(
        "--markdown", type=file_to_write, metavar="FILE", help="write the table into this file too"
    )
    reproduce.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one value of every preset; may be repeated",
    )
    reproduce.add_argument("--ops", default="auto", help=OPS)
    reproduce.add_argument("--data", type=path, metavar="DIR", help="folder of the imported images")
    reproduce.add_argument("--quiet", action="store_true", help="show no progress")
    add_json(reproduce)


def _stopped(args: argparse.Namespace) -> str:
    """Return the line that is printed after Ctrl-C."""
    if args.executor is None:
        return "stopped; every run is saved: give the same command again to continue"
    return "stopped; the Dask workers finish the runs that they have begun; then give the same command again"


def _targets() -> str:
    from reptile_np.experiments.targets import TARGETS

    return "\n  ".join(["targets:", *(f"{name:16} {target.title}" for name, target in TARGETS.items())])


def _seeds(text: str) -> tuple[int, ...]:
    try:
        seeds = tuple(dict.fromkeys(int(part) for part in text.split(",")))
        if min(seeds) >= 0:
            return seeds
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text}: write seeds as 0,1,2")


def _reproduce(args: argparse.Namespace) -> int:
    one_blas_thread()
    from reptile_np.experiments import comparison, reproduction, targets

    address = _address(args)
    if args.dry_run and (args.table or args.markdown):
        raise UsageError(f"--dry-run and {'--table' if args.table else '--markdown'}: choose one of them")
    target = targets.get(args.target)
    if args.only:
        target = target.only(args.only)
    planned = reproduction.plan(
        target,
        args.seeds,
        args.out.absolute(),  # the workers of a cluster may have been started in another directory
        settings=args.set,
        tasks=args.tasks,
        ops=args.ops,
        data=args.data and args.data.absolute(),
    )
    left = [run for run in planned if not run.done()]
    if address is None and not args.table:
        _check(args, left)
    if args.dry_run:
        return _say_what_would_run(args, planned, left)
    failures = [] if args.table else _run(args, left, address)
    title = target.title + (f" (changed: {', '.join(args.set)})" if args.set else "")
    table = comparison.rows(target, planned)
    if args.json:
        show_json({"target": target.name, "rows": [comparison.to_json(row) for row in table]})
    else:
        _show_table(args, comparison.to_text(title, table), planned)
    reasons: dict[str, list[str]] = {}
    for run, error in failures:
        expected = isinstance(error, (UsageError, OSError))
        reason = str(error) if expected else f"{type(error).__name__}: {error}"
        reasons.setdefault(reason, []).append(run.name)
    for reason, (first, *others) in reasons.items():
        note(f"{first}{f' and {len(others)} more' if others else ''}: {reason}")
    if args.markdown:
        write_shown("--markdown", args.markdown, comparison.to_markdown(title, table))
    return 1 if failures else 0


def _check(args: argparse.Namespace, left: Sequence[PlannedRun]) -> None:
    """Refuse kernels, images and settings that cannot be used, before anything starts.

    A dry run needs no images: what only the images can tell is then not checked.  The presets' own settings
    are not checked, because each check reads the images again.
    """
    from reptile_np.experiments.backend import choose_ops
    from reptile_np.experiments.environment import data_folder
    from reptile_np.experiments.episodes import load_images
    from reptile_np.experiments.experiment import make_experiment
    from reptile_np.experiments.run_directory import RunDirectory

    ops = choose_ops(args.ops)
    of_each_preset = {run.preset: run for run in left}.values()
    folders = {run: data_folder(run.data, RunDirectory(run.path).sittings()) for run in of_each_preset}
    missing = set()
    for source, run in {run.preset.tasks.source: run for run in folders}.items():
        try:
            load_images(run.preset, folders[run])
        except UsageError:
            if not args.dry_run or args.data is not None:
                raise
            missing.add(source)
    if not args.set:
        return
    for run, folder in folders.items():
        if run.preset.tasks.source in missing:
            continue
        try:
            experiment = make_experiment(run.preset, run.seed, ops, folder)
            experiment.check_training()
            for spec in (run.preset.evaluation, *run.evaluations):
                experiment.check_evaluation(spec, "test")
        except UsageError as error:
            raise UsageError(f"{run.preset.name}: {error}") from None


def _say_what_would_run(
    args: argparse.Namespace, planned: Sequence[PlannedRun], left: Sequence[PlannedRun]
) -> int:
    from reptile_np.experiments.progress import duration
    from reptile_np.machine import cores

    seconds = {run: run.seconds_left() for run in planned}
    jobs = None if args.executor else _jobs(args, len(left))  # a cluster has its own number of workers
    total = sum(seconds.values())
    if args.json:
        show_json(
            {
                "jobs": jobs,
                "core_seconds": total,
                "runs": [
                    {"run": run.name, "done": run.done(), "seconds_left": seconds[run]} for run in planned
                ],
            }
        )
        return 0
    width = max(len(run.name) for run in planned)
    for run in planned:
        steps, whole = run.steps_done(), run.preset.outer.steps
        to_evaluate = ", ".join(f"{spec.shots}-shot" for spec in run.left())
        parts = [] if run.trained() else [f"train {steps:,} of {whole:,}" if steps else "train"]
        parts += [f"evaluate {to_evaluate}"] if to_evaluate else []
        state = f"{', '.join(parts)}: {duration(seconds[run])}" if parts else "done"
        show(f"{run.name:{width}}  {state}")
    line = f"{len(left)} of {len(planned)} runs are left: about {duration(total)} of one core"
    if jobs is not None:
        wall = max(total / min(jobs, cores()), *seconds.values()) if left else 0.0
        line += f", {duration(wall)} with --jobs {jobs}"
    show(line)
    return 0


def _jobs(args: argparse.Namespace, runs: int) -> int:
    from reptile_np.machine import cores

    return int(args.jobs or max(min(cores(), runs), 1))


def _run(
    args: argparse.Namespace, left: Sequence[PlannedRun], address: str | None
) -> list[tuple[PlannedRun, BaseException]]:
    """Do what is left, on the Dask cluster at `address` if there is one; return what failed and why."""
    from reptile_np.experiments import parallel
    from reptile_np.experiments.backend import kernels_missing
    from reptile_np.experiments.reproduction import PROGRESS, ProgressFile, work

    if not left:
        return []
    for run in left:
        ProgressFile(run.path / PROGRESS).remove()  # what a killed process left
    if address is None and args.ops == "auto" and (missing := kernels_missing()):
        note(missing)
    signals.raise_instead()  # to let the worker processes save
    watch = (lambda: None) if args.quiet else Status(left).show
    results = parallel.run_all(work, left, partial(_executor, args, len(left), address), watch=watch)
    hint = ": the workers must see the same files under the same paths" if address else ""
    not_done = UsageError(f"not done in {args.out.absolute()}{hint}")
    return [
        (run, error or not_done)
        for run, error in zip(left, results, strict=True)
        if error is not None or not run.done()
    ]


def _address(args: argparse.Namespace) -> str | None:
    """Return the address of the Dask cluster that was asked for; None without one."""
    if args.executor is None:
        return None
    if args.jobs is not None:
        raise UsageError("--executor and --jobs: choose one of them; a cluster has its own number of workers")
    kind, _, address = str(args.executor).partition(":")
    if kind != "dask" or not address:
        raise UsageError(f"--executor {args.executor}: write dask:ADDRESS, such as dask:tcp://10.0.0.1:8786")
    return address


def _executor(args: argparse.Namespace, runs: int, address: str | None) -> AbstractContextManager[Executor]:
    from reptile_np.experiments import cluster, workers

    if address is None:
        return workers.worker_processes(_jobs(args, runs))
    return cluster.dask_executor(address)


def _show_table(args: argparse.Namespace, table: Iterable[str], planned: Sequence[PlannedRun]) -> None:
    heading, *lines = table
    show(paint(heading, BOLD))
    for line in lines:
        show(line)
    if missing := sum(not run.done() for run in planned):
        note(f"{missing} of {len(planned)} runs are not done; see: {_same_runs(args)} --dry-run")


def _same_runs(args: argparse.Namespace) -> str:
    """Return the command that names the runs of `args`."""
    seeds = ",".join(map(str, args.seeds))
    words = ["reproduce", args.target, "--seeds", seeds, *as_words("--out", args.out)]
    words += ["--only", args.only] if args.only else []
    words += ["--tasks", str(args.tasks)] if args.tasks else []
    words += [word for setting in args.set for word in ("--set", setting)]
    return command_line(words)
