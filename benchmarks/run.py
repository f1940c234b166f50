"""Time reptile_np beside whatever peers are installed, and keep the record.

    python benchmarks/run.py NAME [--seconds 600] [--threads 1 2] [--peers torch_eager …] [--works TEXT]

Everything runs twice: as installed, and with tuned settings (README.md says which).  Writes
results/NAME.json and prints the tables.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import sys
import time
from pathlib import Path

from reptile_np.bench import measurement as bench

HERE = Path(__file__).resolve().parent
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
"""glibc keeps its pages: large arrays are not given back to the system, and faulted in again, each time."""


def tuned():
    """Return the settings that a patient user would find: malloc's, and OpenBLAS's kernels for AVX-512."""
    return (
        {**MALLOC, "OPENBLAS_CORETYPE": "SKYLAKEX"} if "avx512f" in bench.machine()["processor"] else MALLOC
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name")
    parser.add_argument("--seconds", type=float, default=600, help="measuring time of the whole run")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, os.cpu_count()])
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS)
    parser.add_argument("--works", default="", help="only works whose name holds this text")
    args = parser.parse_args()
    peers = [peer for peer in args.peers if importlib.util.find_spec(PEERS[peer])]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])

    record = {"date": time.strftime("%Y-%m-%d"), "packages": versions(peers), "settings": {}}
    for title, environment in (("as installed", {}), ("tuned", tuned())):
        result = bench.run(
            seconds=args.seconds / 2,
            threads=args.threads,
            peers=[f"peers.{peer}" for peer in peers],
            works=args.works,
            environment=environment,
        )
        record["settings"][title] = {"environment": environment, **result}
        print(f"==== {title} {environment or ''}\n{bench.format_table(result)}\n", flush=True)
    path = HERE / "results" / f"{args.name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"==== ratios\n{ratios(record)}\n\nkept in {path}")
    return any(result["failures"] for result in record["settings"].values())


def versions(peers):
    names = sorted({PEERS[peer] for peer in peers})
    return {
        name: importlib.metadata.version("tensorflow-cpu" if name == "tensorflow" else name) for name in names
    }


def ratios(record):
    """Return, per work and thread count, our best variant against NumPy and against the best peer.

    Every ratio is of minima measured in one child process; of the peers' two, as installed and tuned,
    the smaller counts.
    """
    columns = "work, threads, ours ms, % of peak, x NumPy as installed, x NumPy tuned, x best peer"
    lines = [f"| {' | '.join(columns.split(', '))} |", "|---|---|---|---|---|---|---|"]
    tables = [table_of(result["rows"]) for result in record["settings"].values()]
    for key in tables[0]:
        ours, against_numpy, against_peer = [], [], []
        for rows in (table.get(key, {}) for table in tables):
            own = min((r for v, r in rows.items() if v.startswith("native")), key=least, default=None)
            if own is None:
                continue
            ours.append(own)
            against_numpy.append(f"{own['vs_numpy']:.2f}" if own["vs_numpy"] else "-")
            others = [r for v, r in rows.items() if v != "numpy" and not v.startswith("native")]
            against_peer += [(r["ms_min"] / own["ms_min"], r["variant"]) for r in others]
        if ours:
            best = "{:.2f} ({})".format(*min(against_peer)) if against_peer else "-"
            cells = [
                key[0],
                key[1],
                f"{ours[0]['ms_min']:.3f}",
                f"{ours[0]['peak_share']:.0%}",
                *against_numpy,
                best,
            ]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def table_of(rows):
    table = {}
    for row in rows:
        table.setdefault((row["work"], row["threads"]), {})[row["variant"]] = row
    return table


def least(row):
    return row["ms_min"]


if __name__ == "__main__":
    sys.exit(main())
