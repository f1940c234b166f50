"""The commands `verify` and `bench`: exit code 1 if a claim or a check does not hold.

Verified by ``tests/test_cli.py``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from reptile_np.cli import signals
from reptile_np.cli.arguments import Commands, add_json, json_file, positive, seconds, write_shown
from reptile_np.cli.terminal import GREEN, RED, note, paint, show, show_json

__all__ = ["add_to"]


def add_to(commands: Commands) -> None:
    """Add the commands."""
    nothing = "stopped; nothing was finished"
    add_json(commands.add("verify", _verify, "check every claim of the paper's analysis", nothing))

    bench = commands.add(
        "bench",
        _bench,
        "verify the kernels, then time them against NumPy",
        "stopped; no measurements were saved",
    )
    bench.more = _workload_names
    bench.add_argument(
        "--works",
        nargs="+",
        default=[],
        metavar="GLOB",
        help="only the workloads whose names match, such as 'omniglot step*'",
    )
    bench.add_argument(
        "--threads",
        nargs="+",
        type=positive,
        default=[],
        help="numbers of threads (default: 1 and all cores)",
    )
    bench.add_argument(
        "--seconds", type=seconds, help="time of all measurements together, roughly (default: 70)"
    )
    bench.add_argument("--quiet", action="store_true", help="show no progress")
    bench.add_argument(
        "--json",
        nargs="?",
        const="-",
        type=json_file,
        metavar="FILE",
        help="print one JSON object on the last line, and write it to FILE",
    )


def _verify(args: argparse.Namespace) -> int:
    from reptile_np.theory import claims

    table = claims.verify()
    if args.json:
        show_json({"claims": [claim._asdict() for claim in table]})
    else:
        for line in claims.format_table(table).splitlines():
            show(_coloured(line))
    return 0 if all(claim.holds for claim in table) else 1


def _coloured(line: str) -> str:
    """Return a line of the claims' table with its mark in colour."""
    for mark, colour in (("holds", GREEN), ("FAILS", RED)):
        if line.startswith(f"  {mark}  "):
            return line.replace(mark, paint(mark, colour), 1)
    return line


def _workload_names() -> str:
    from reptile_np.bench.catalogue import all_workloads

    return "\n  ".join(["workloads:", *(workload.name for workload in all_workloads())])


def _bench(args: argparse.Namespace) -> int:
    from reptile_np.bench import report, runner
    from reptile_np.experiments.backend import kernels_missing

    if missing := kernels_missing():
        note(f"{missing}; only NumPy is timed")
    signals.raise_instead()  # to end the child process
    result = runner.run(args.seconds or runner.SECONDS, args.threads, works=args.works, quiet=args.quiet)
    if args.json:
        show_json(result)
    else:
        show(report.format_table(result))
    if args.json not in (None, "-"):
        write_shown("--json", Path(args.json), json.dumps(result, indent=2) + "\n")
    return 1 if result["failures"] else 0
