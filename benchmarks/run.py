"""Time reptile_np beside the other frameworks that are installed, and keep the record.

    python benchmarks/run.py NAME [--seconds 600] [--threads 1 2] [--peers torch_eager …] [--works GLOB …]
    python benchmarks/run.py --table benchmarks/results/NAME.json

The first measures everything twice, as installed and with environment settings that can make NumPy
faster (speed.md says which), writes results/NAME.json and prints the tables.  The second prints the table
of ratios of a record.  Verified by ``tests/bench/test_runner.py``.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from reptile_np.bench import machine, report, runner
from reptile_np.errors import UsageError, printable
from reptile_np.experiments.backend import kernels_missing

RESULTS = Path(__file__).resolve().parent / "results"
PEERS = {
    "torch_eager": "torch",
    "torch_compiled": "torch",
    "jax_conv": "jax",
    "jax_im2col": "jax",
    "tensorflow_graph": "tensorflow",
}
"""Module ↦ the package it needs."""

MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
    "MALLOC_TOP_PAD_": str(1 << 26),
}
"""With these, glibc keeps the memory of large arrays instead of returning it to the system after each use."""


def main():
    try:
        args = parse()
        if args.table:
            print(ratios(recorded(args.table)))
            return 0
        return measure(args)
    except (UsageError, OSError) as error:
        print(f"run.py: {printable(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("run.py: stopped; nothing was kept", file=sys.stderr)
        return 130


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", help="of the record: results/NAME.json")
    parser.add_argument("--table", type=Path, metavar="FILE", help="print the ratios of this record")
    parser.add_argument("--seconds", type=float, default=600, help="measuring time of the whole run")
    parser.add_argument("--threads", type=int, nargs="+", default=[], help="default: 1 and all cores (≤ 64)")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS)
    parser.add_argument(
        "--works", nargs="+", default=[], metavar="GLOB", help="only workloads of these names"
    )
    args = parser.parse_args()
    if (args.name is None) == (args.table is None):
        raise UsageError("give either a NAME or --table FILE")
    return args


def measure(args):
    """Measure, write the record, print; what cannot succeed is refused before anything is measured."""
    if missing := kernels_missing():
        raise UsageError(f"{missing} (with NumPy alone there is nothing to compare)")
    path = RESULTS / f"{args.name}.json"
    if path.exists():
        raise UsageError(f"{path}: exists; choose another name")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"{path.parent}: there is no such folder, or it cannot be written; give a name only")
    peers = [peer for peer in args.peers if importlib.util.find_spec(PEERS[peer])]
    for peer in args.peers:
        if peer not in peers:
            print(f"left out: {peer}, because {PEERS[peer]} is not installed", file=sys.stderr)

    for name in [name for name in os.environ if name.startswith(("OPENBLAS_", "MALLOC_"))]:
        print(f"left out: {name}={os.environ.pop(name)} of the environment", file=sys.stderr)
    record = {"date": time.strftime("%Y-%m-%d"), "packages": versions(peers), "settings": {}}
    for title, environment in (("as installed", {}), ("with settings", settings())):
        wait_for_the_load_to_fall(args.seconds / 2)
        result = runner.run(
            seconds=args.seconds / 2,
            threads=args.threads,
            peers=[f"peers.{peer}" for peer in peers],
            works=args.works,
            environment=environment,
        )
        record["settings"][title] = {"environment": environment, **result}
        print(f"==== {title} {environment or ''}\n{report.format_table(result)}\n", flush=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"==== ratios\n{ratios(record)}\n\nkept in {path}")
    return int(any(result["failures"] for result in record["settings"].values()))


def wait_for_the_load_to_fall(seconds):
    """Wait, for so many seconds and for two minutes at most, until the load of what ran before has passed."""
    end = time.monotonic() + min(seconds, 120)
    while (machine.load() or 0.0) > machine.SPARE_LOAD and time.monotonic() < end:
        time.sleep(1)


def recorded(path):
    """Return what `measure` wrote to a file."""
    try:
        record = json.loads(path.read_bytes())
        return {"settings": {title: {"rows": list(r["rows"])} for title, r in record["settings"].items()}}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(f"{path}: not a record of run.py") from None


def settings():
    """Return what makes NumPy faster here: malloc's settings, and OpenBLAS's AVX-512 kernels if they run."""
    avx512 = "avx512f" in machine.machine()["processor"]
    return {**MALLOC, "OPENBLAS_CORETYPE": "SKYLAKEX"} if avx512 else MALLOC


def versions(peers):
    """Return package ↦ version; TensorFlow's package has one of two names."""
    found = {}
    for name in sorted({PEERS[peer] for peer in peers}):
        for package in (name, f"{name}-cpu"):
            with suppress(importlib.metadata.PackageNotFoundError):
                found[name] = importlib.metadata.version(package)
    return found


def ratios(record):
    """Return a Markdown table: the default variant against NumPy and against the fastest other framework.

    The times and shares of the peak are those as installed.  A ratio is of least times measured in one
    child process.  Of a peer's two ratios, as installed and with settings, the table has the smaller.
    """
    ratios = "× NumPy as installed, × NumPy with settings, × fastest other framework"
    columns = f"workload, threads, ms, % of peak, {ratios}"
    lines = [f"| {columns.replace(', ', ' | ')} |", "|---" * len(columns.split(", ")) + "|"]
    tables = [by_workload(result["rows"]) for result in record["settings"].values()]
    rows = record["settings"]["as installed"]["rows"]
    default = next((row["variant"] for row in rows if row["default"]), None)
    if default is None:
        return "no ratios: the default variant did not compute the same as NumPy in any of these workloads"
    for key in tables[0]:
        ours, against_numpy, against_peer = [], [], []
        for rows in (table.get(key, {}) for table in tables):
            if default not in rows:  # it was wrong there, and not timed
                continue
            own = rows[default]
            ours.append(own)
            against_numpy.append(f"{own['vs_numpy']:.2f}" if own["vs_numpy"] else "-")
            others = [r for v, r in rows.items() if v != "numpy" and not v.startswith("native")]
            against_peer += [(r["ms_min"] / own["ms_min"], r["variant"]) for r in others]
        if len(ours) == len(tables):
            ms, share = report.milliseconds(ours[0]["ms_min"]), f"{ours[0]['peak_share']:.0%}"
            peer = "{:.2f} ({})".format(*min(against_peer)) if against_peer else "-"
            lines.append(f"| {' | '.join(map(str, [*key, ms, share, *against_numpy, peer]))} |")
    return "\n".join([f"Default variant: {default}", "", *lines])


def by_workload(rows):
    """Return (workload, threads) ↦ variant ↦ row."""
    table = {}
    for row in rows:
        table.setdefault((row["work"], row["threads"]), {})[row["variant"]] = row
    return table


if __name__ == "__main__":
    sys.exit(main())
