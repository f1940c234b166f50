"""Measure the memory and time of exact MAML gradients: what `adapt` keeps, beside PyTorch and JAX.

    python benchmarks/maml_memory.py benchmarks/results/NAME.json [--steps 1 5 20 100 500] [--peers …]
    python benchmarks/maml_memory.py --table benchmarks/results/NAME.json

K support steps of SGD on 5 images each and a query of 5 images, Omniglot's network (5-way), float32, one
thread.  Each figure has its own process: the answer is first compared with float64 NumPy (relative
error in norm below 1e-4, in a process of its own), then, in another process, the peak of resident memory
(VmHWM, reset beforehand through /proc/self/clear_refs: Linux only) during the first call, beyond what the
process held before that call (imports, images, φ; for JAX the compiled program too), and the least time of
the next calls.
"""

import argparse
import gc
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from reptile_np.bench.machine import load, machine
from reptile_np.bench.workloads import Answer, Contender, MetaGradient
from reptile_np.meta.inner_loop import adapt
from reptile_np.meta.meta_gradients import maml
from reptile_np.meta.optimizers import Sgd
from reptile_np.nn import native
from reptile_np.nn.models import omniglot_cnn

KEEPS = ("hessians", "all", "sqrt")
PEERS = ("torch create_graph", "jax", "jax checkpoint")
TOLERANCE = 1e-4
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "MALLOC_MMAP_THRESHOLD_": str(
        1 << 17
    ),  # glibc then gives freed arrays back, so that the next are counted
}
SECONDS = 2.0


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("record", type=Path)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 5, 20, 100, 500])
    parser.add_argument("--peers", nargs="*", default=[], choices=PEERS)
    parser.add_argument("--longest-peer", type=int, default=100, help="peers run up to this many steps")
    parser.add_argument("--table", action="store_true", help="print a record's table")
    parser.add_argument("--measure", nargs=2, metavar=("VARIANT", "K"), help=argparse.SUPPRESS)
    parser.add_argument("--verify", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        variant, k = args.measure[0], int(args.measure[1])
        print(json.dumps(verify(variant, k) if args.verify else measure(variant, k)))
    elif args.table:
        print(table(json.loads(args.record.read_text())))
    else:
        record(args)


def record(args):
    """Measure everything and write the record after each figure."""
    packages = ("numpy", "torch", "jax", "jaxlib")
    result = {"machine": machine(), "load": load(), "packages": versions(packages), "rows": []}
    for k in args.steps:
        for variant in (*KEEPS, *(args.peers if k <= args.longest_peer else ())):
            error = in_a_process(args, variant, k, "--verify")["error"]
            row = {"variant": variant, "steps": k, "error": error}
            if error <= TOLERANCE:
                row |= in_a_process(args, variant, k)
            result["rows"].append(row)
            args.record.write_text(json.dumps(result, indent=1) + "\n")
            print(row, flush=True)
    print(table(result))


def in_a_process(args, variant, k, *options):
    command = [sys.executable, __file__, str(args.record), "--measure", variant, str(k), *options]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **ENVIRONMENT}
    )
    return json.loads(done.stdout.splitlines()[-1])


def versions(packages):
    known = {}
    for name in packages:
        try:
            known[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return known


def workload(k):
    """Return the meta-gradient of K = k steps on black and white images, a minibatch of its own for each.

    γ = 1/16 and β = ±1/2 keep every ReLU far from its kink, so that rounding is the only difference between
    contenders (as in `reptile_np.bench.catalogue`).
    """
    rng = np.random.default_rng(0)
    model = omniglot_cnn(5)
    shape = (5, *model.input_shape)
    batches = tuple(((rng.random(shape) < 0.9).astype(np.float32), np.arange(5)) for _ in range(k + 1))
    phi = model.init(rng)
    for name, view in model.layout.views(phi).items():
        if name.endswith("gamma"):
            view[:] = 1 / 16
        elif name.endswith("beta"):
            view[::2], view[1::2] = 0.5, -0.5
    return MetaGradient(f"MAML, K = {k}", model, phi, batches, alpha=1e-4)


def contender(variant, k):
    """Return a variant's way to compute it."""
    work = workload(k)
    if variant in KEEPS:
        return ours(work, variant)
    if variant.startswith("torch"):
        from peers.torch_eager import variants

        return variants(threads=1)["torch-eager"](work)
    from peers import jax_jit
    from peers.jax_im2col import convolve

    return jax_jit.meta_gradient(work, convolve, checkpoint=variant == "jax checkpoint")


def ours(work, keep):
    model = work.model.with_ops(native.load(threads=1))
    direction = maml(model, work.alpha)

    def run():
        t = adapt(model, Sgd(work.alpha), work.phi, work.batches, keep=keep)
        return Answer(np.array(t.losses), direction(t))

    return Contender(run, lambda answer: answer)


def verify(variant, k):
    """Return the relative error against float64 NumPy; what is kept does not change bits, so K points do."""
    work = workload(k)
    wide = work.phi.astype(float)
    batches = [(x.astype(float), y) for x, y in work.batches]
    t = adapt(work.model, Sgd(work.alpha), wide, batches)
    expected = maml(work.model, work.alpha)(t)
    one = contender(variant, k)
    answer = one.read(one.run()).vector
    return {"error": float(np.linalg.norm(answer - expected) / np.linalg.norm(expected))}


def measure(variant, k):
    """Return the peak in MB of the first call, beyond the memory held before, and the least time in ms."""
    one = contender(variant, k)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    one.run()
    peak = resident("VmHWM") - before
    times, end = [], time.perf_counter() + SECONDS
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        one.run()
        times.append(time.perf_counter() - start)
    return {"peak_mb": round(peak / 1000, 1), "ms_min": round(1000 * min(times), 2), "calls": len(times)}


def resident(name):
    """Return a line of /proc/self/status in units of 1000 bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1.024
    raise SystemExit(f"maml_memory.py: /proc/self/status has no {name}; Linux only")


def table(result):
    """Return a Markdown table: MB and ms of each variant at each K."""
    rows = {(row["variant"], row["steps"]): row for row in result["rows"]}
    steps = sorted({k for _, k in rows})
    variants = list(dict.fromkeys(variant for variant, _ in rows))
    lines = ["| | " + " | ".join(f"K = {k}" for k in steps) + " |", "|---" * (len(steps) + 1) + "|"]
    for variant in variants:
        cells = []
        for k in steps:
            row = rows.get((variant, k), {})
            cells.append(f"{row['peak_mb']:.1f} MB, {row['ms_min']:.1f} ms" if "peak_mb" in row else "-")
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
