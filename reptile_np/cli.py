"""The command line: list, train, evaluate, verify, bench, data.

Exit codes: 0 done, 1 a claim or check does not hold, 2 unusable arguments or data (one line that says
what, where and what to do).  ``--json`` puts one JSON object on the last line of standard output;
progress goes to standard error.  Verified by ``tests/test_cli.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from reptile_np import __version__
from reptile_np.errors import UsageError

Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    if argv is None:  # as a program: `kill` is Ctrl-C, and the run's state is saved
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        args = _parser().parse_args(argv)
        command: Command = args.command
        return command(args)
    except UsageError as error:
        print(f"reptile-np: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("reptile-np: stopped; a run with --out goes on with --resume", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone: not an error
        return 0


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        """Raise what `main` prints."""
        raise UsageError(f"{message} (see: {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="reptile-np", description="Reptile, FOMAML and MAML in NumPy.")
    parser.add_argument("--version", action="version", version=f"reptile-np {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Command, about: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=about, description=about)
        sub.set_defaults(command=command)
        if name == "bench":
            sub.add_argument("--json", nargs="?", const="-", metavar="FILE", help="… and into FILE")
        else:
            sub.add_argument("--json", action="store_true", help="one JSON object on the last line")
        return sub

    def add_kernels(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--ops", default="auto", help="auto, numpy, native or native-<isa> (default: auto)")
        sub.add_argument("--threads", type=_positive, help="native threads (default: the available cores)")
        sub.add_argument("--data", type=Path, metavar="DIR", help="where the images are (default: imported)")

    add("list", _list, "every preset, its source and its cost; the kernels there are")

    train = add("train", _train, "meta-train a preset, and show accuracy before and after")
    train.add_argument("preset")
    train.add_argument("--seed", type=_natural, default=0)
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change one value")
    train.add_argument("--out", type=Path, metavar="DIR", help="keep checkpoint and records here")
    train.add_argument("--resume", action="store_true", help="go on with the run in --out")
    add_kernels(train)

    evaluate = add("evaluate", _evaluate, "evaluate a run in both modes")
    evaluate.add_argument("run", type=Path, metavar="DIR")
    evaluate.add_argument("--tasks", type=_positive, default=10_000)
    evaluate.add_argument("--shots", type=_positive, help="K (default: the preset's)")
    evaluate.add_argument("--split", choices=("test", "train"), default="test")
    add_kernels(evaluate)

    add("verify", _verify, "check every claim of the paper's analysis")

    add("bench", _bench, "verify the kernels, then time them against NumPy")

    data = add("data", _data, "import a data set, once")
    data.add_argument("dataset", choices=("omniglot",))
    data.add_argument("--from", dest="source", metavar="DIR|ZIP|URL", help="default: the official address")
    data.add_argument("--to", type=Path, metavar="DIR", help="default: the user's cache folder")
    return parser


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be at least 1")
    return value


def _natural(text: str) -> int:
    if (value := int(text)) < 0:
        raise argparse.ArgumentTypeError(f"{text}: must be at least 0")
    return value


_positive.__name__ = _natural.__name__ = "integer"  # argparse names the type in its message


def _print_json(values: dict[str, Any]) -> None:
    print(json.dumps(values))


def _list(args: argparse.Namespace) -> int:
    from reptile_np.experiments.presets import PRESETS, to_json
    from reptile_np.nn import native
    from reptile_np.nn.native.installation import explain_absence

    kernels = ["numpy", *(f"native-{isa}" for isa in native.available())]
    if args.json:
        _print_json({"presets": [to_json(preset) for preset in PRESETS.values()], "ops": kernels})
        return 0
    width = max(map(len, PRESETS))
    for name, preset in PRESETS.items():
        print(f"{name:{width}}  {preset.about}\n{'':{width}}  {preset.source}; about {preset.cost} in NumPy")
    print(f"\nkernels: {', '.join(kernels)}")
    if not native.available():
        print(explain_absence())
    return 0


def _one_blas_thread() -> None:
    """Keep NumPy's BLAS to one thread, unless the user has said otherwise; call before NumPy is imported.

    The products here are too small to share: a second thread gains a tenth on an idle machine, and waits
    for its turn on a busy one (glyphs-5way on two busy cores trained in 114 s with two, 35 s with one).
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _train(args: argparse.Namespace) -> int:
    _one_blas_thread()
    from reptile_np.experiments import presets, runs
    from reptile_np.experiments.backend import choose_ops

    preset = presets.with_settings(presets.get(args.preset), args.set)
    ops = choose_ops(args.ops, args.threads)
    result = runs.train(preset, args.seed, ops, data=args.data, out=args.out, resume=args.resume)
    if args.json:
        about = {"preset": preset.name, "seed": args.seed, "ops": ops.name, "threads": ops.threads}
        _print_json({**about, **result})
        return 0
    steps, seconds = result["outer_steps"], result["seconds"]
    print(f"{preset.name}, seed {args.seed}: {steps} outer steps in {seconds:.0f} s, {ops.name} kernels")
    if "error" in result:
        for what, suffix in (("untrained", "_untrained"), ("meta-trained", "")):
            before, after = result[f"error_before{suffix}"], result[f"error{suffix}"]
            print(f"{what:>13}: squared error {before:.3f}, after fine-tuning {after:.3f}")
        return 0
    shots, ways = preset.evaluation.shots, preset.tasks.ways
    print(f"accuracy after the same fine-tuning, {shots}-shot {ways}-way on unseen classes:")
    for what, suffix in (("untrained", "_untrained"), ("meta-trained", "")):
        means, widths = result[f"accuracy{suffix}"], result[f"ci95{suffix}"]
        modes = (f"{mode.replace('_', '-')} {means[mode]:.1%} ± {widths[mode]:.1%}" for mode in means)
        print(f"{what:>13}: {', '.join(modes)}")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    _one_blas_thread()
    from reptile_np.experiments import runs
    from reptile_np.experiments.backend import choose_ops

    result = runs.evaluate(
        args.run,
        choose_ops(args.ops, args.threads),
        data=args.data,
        tasks=args.tasks,
        shots=args.shots,
        split=args.split,
    )
    if args.json:
        _print_json(result)
    elif "error" in result:
        print(f"squared error {result['error_before']:.3f}, after fine-tuning {result['error']:.3f}")
    else:
        print(f"{result['shots']}-shot {result['ways']}-way, {result['tasks']} tasks of the {args.split} set")
        for mode, accuracy in result["accuracy"].items():
            print(f"{mode.replace('_', '-'):>16}: {accuracy['mean']:.2%} ± {accuracy['ci95']:.2%}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from reptile_np.theory import claims

    table = claims.verify()
    if args.json:
        _print_json({"claims": [claim._asdict() for claim in table]})
    else:
        print(claims.format_table(table))
    return 0 if all(claim.holds for claim in table) else 1


def _bench(args: argparse.Namespace) -> int:
    from reptile_np.bench import measurement as bench

    result = bench.run()
    if args.json not in (None, "-"):
        Path(args.json).write_text(json.dumps(result, indent=2) + "\n")
    if args.json:
        _print_json(result)
    else:
        print(bench.format_table(result))
    return 1 if result["failures"] else 0


def _data(args: argparse.Namespace) -> int:
    from reptile_np.experiments.progress import Reporter
    from reptile_np.tasks import omniglot

    path = omniglot.import_omniglot(args.source, args.to, Reporter())
    images = omniglot.load(path)
    drawings = sum(images.count(c) for c in range(len(images)))
    if args.json:
        _print_json({"file": str(path), "classes": len(images), "images": drawings})
    else:
        print(f"{len(images):,} characters, {drawings:,} drawings, verified, in {path}")
    return 0
