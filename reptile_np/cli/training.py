"""The commands `train` and `evaluate`.

Verified by ``tests/test_cli.py``.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from reptile_np.cli import signals
from reptile_np.cli.arguments import (
    Commands,
    add_computing,
    add_json,
    as_words,
    natural,
    one_blas_thread,
    path,
    positive,
)
from reptile_np.cli.terminal import WIDTH, command_line, note, show, show_json
from reptile_np.errors import UsageError, printable

__all__ = ["A_MINUTE", "add_to", "interval"]

if TYPE_CHECKING:
    from reptile_np.experiments.presets import Preset
    from reptile_np.nn.ops import Ops

A_MINUTE = 60.0
"""Seconds: before a longer run a note is printed if nothing of it will be saved."""


def add_to(commands: Commands) -> None:
    """Add the commands."""
    train = commands.add(
        "train", _train, "meta-train a preset, and show accuracy before and after", stopped=_how_to_go_on
    )
    train.more = _presets_and_keys
    train.add_argument("preset", nargs="?", help="what to train (with --resume default: the run's preset)")
    train.add_argument(
        "--seed", type=natural, help="seed of all random numbers (default: 0; with --resume: the run's)"
    )
    train.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change one value; may be repeated"
    )
    train.add_argument(
        "--out", type=path, metavar="DIR", help="save the run's state and records in this folder"
    )
    train.add_argument("--resume", action="store_true", help="continue the run in --out")
    add_computing(train, "threads of the kernels; on images with SGD inside, tasks trained at a time")
    add_json(train)

    evaluate = commands.add(
        "evaluate",
        _evaluate,
        "evaluate a run, transductive and non-transductive",
        stopped="stopped; no evaluation was recorded",
    )
    evaluate.add_argument(
        "run", metavar="DIR|pretrained:NAME", help="the folder of a run, or released weights"
    )
    evaluate.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="tasks.source=folder",
        help="evaluate on the images in --data",
    )
    evaluate.add_argument(
        "--tasks", type=positive, default=10_000, help="number of test tasks (default: 10,000)"
    )
    evaluate.add_argument(
        "--shots", type=positive, help="examples of each class to learn from (default: the preset's)"
    )
    evaluate.add_argument(
        "--split",
        choices=("test", "validation", "train"),
        default="test",
        help="classes of the tasks (default: test)",
    )
    evaluate.add_argument(
        "--curve", action="store_true", help="print the accuracy after 0, 1, 2, … inner steps too"
    )
    evaluate.add_argument(
        "--compare",
        metavar="DIR|pretrained:NAME",
        help="a second run: print the difference on the same tasks",
    )
    evaluate.add_argument("--jobs", type=positive, help="number of processes (default: one for each core)")
    add_computing(evaluate, "threads of the kernels, if --jobs is 1")
    add_json(evaluate)


def _presets_and_keys() -> str:
    from reptile_np.experiments.presets import PRESETS, setting_keys

    def block(title: str, words: list[str]) -> str:
        text = textwrap.fill(
            ", ".join(words),
            WIDTH,
            initial_indent="  ",
            subsequent_indent="  ",
            break_on_hyphens=False,
        )
        return f"{title}:\n{text}\n"

    return (
        block("presets (reptile-np show PRESET prints all values)", list(PRESETS))
        + block("keys of --set", setting_keys())
        + "examples:\n"
        "  reptile-np train glyphs-5way\n"
        "  reptile-np train omniglot-5way --seed 1 --out runs/o5\n"
        "  reptile-np train --out runs/o5 --resume\n"
        "  reptile-np train sine-maml --set outer.steps=1000 --set inner.batch=5"
    )


def _train(args: argparse.Namespace) -> int:
    one_blas_thread()
    from reptile_np.experiments import presets, runs
    from reptile_np.experiments.backend import choose_ops, kernels_missing
    from reptile_np.experiments.experiment import make_experiment

    preset, seed = _what_to_train(args)
    ops = choose_ops(args.ops, args.threads)
    if args.ops == "auto" and (missing := kernels_missing()):
        note(missing)
    if args.out is None and presets.seconds(preset) > A_MINUTE:
        experiment = make_experiment(preset, seed, ops, args.data)
        experiment.check_training()  # a run that is refused prints only its error, not the note
        experiment.check_evaluation(preset.evaluation, "test")
        folder = f"runs/{preset.name}-seed{seed}"
        note(f"nothing of this run will be saved, not even φ; to save it, stop and add: --out {folder}")
    signals.raise_instead()  # to save the run's state
    result = runs.train(preset, seed, ops, data=args.data, out=args.out, resume=args.resume, quiet=args.quiet)
    if args.json:
        about = {"preset": preset.name, "seed": seed, "ops": ops.name, "threads": ops.threads}
        show_json({**about, **result})
        return 0
    steps, seconds = result["outer_steps"], result["seconds"]
    show(f"{preset.name}, seed {seed}: {steps} outer steps in {seconds:.0f} s, {ops.name} kernels")
    for line in _before_and_after(preset, result):
        show(line)
    return 0


def _what_to_train(args: argparse.Namespace) -> tuple[Preset, int]:
    """Return preset and seed: the given ones, or with --resume those of the run, which must agree."""
    from reptile_np.experiments import presets
    from reptile_np.experiments.run_directory import RunDirectory

    if not args.resume:
        if args.preset is None:
            raise UsageError(
                "train: name a preset (see: reptile-np list), or continue a run: --out DIR --resume"
            )
        return presets.with_settings(presets.get(args.preset), args.set), args.seed or 0
    if args.out is None:
        raise UsageError("--resume needs --out DIR, the directory of the run to continue")
    preset, seed = RunDirectory(args.out).config()
    if args.preset not in (None, preset.name):
        raise UsageError(
            f"--out {args.out}: holds a run of {preset.name}, not {args.preset}; leave out the preset"
        )
    if args.seed not in (None, seed):
        raise UsageError(f"--out {args.out}: was begun with seed {seed}, not {args.seed}; leave out --seed")
    if other := presets.differences((preset, seed), (presets.with_settings(preset, args.set), seed)):
        raise UsageError(f"--out {args.out}: was begun with {other}; leave out --set")
    return preset, seed


def _how_to_go_on(args: argparse.Namespace) -> str:
    if args.out is None:
        return "stopped; nothing was kept, because there was no --out DIR"
    if not (args.out / "config.json").exists():
        return f"stopped before the run had begun; nothing was saved in {args.out}"
    words = ["train", *as_words("--out", args.out), "--resume"]
    for option, value in (("--ops", args.ops), ("--threads", args.threads)):
        if value not in (None, "auto"):
            words += [option, str(value)]
    return f"stopped; continue with: {command_line(words)}"


def _before_and_after(preset: Preset, result: Mapping[str, Any]) -> Iterator[str]:
    points = (("untrained", "_untrained"), ("meta-trained", ""))
    if "error" in result:
        for what, suffix in points:
            before, after = result[f"error_before{suffix}"], result[f"error{suffix}"]
            yield f"{what:>13}: squared error {before:.3f}, after fine-tuning {after:.3f}"
        return
    shots, ways = preset.evaluation.shots, preset.tasks.ways
    yield f"accuracy after the same fine-tuning, {shots}-shot {ways}-way on unseen classes:"
    for what, suffix in points:
        means, widths = result[f"accuracy{suffix}"], result[f"ci95{suffix}"]
        modes = (f"{mode.replace('_', '-')} {interval(means[mode], widths[mode], 1)}" for mode in means)
        yield f"{what:>13}: {', '.join(modes)}"


def _evaluate(args: argparse.Namespace) -> int:
    one_blas_thread()
    from reptile_np.experiments import runs
    from reptile_np.experiments.backend import choose_ops, kernels_missing
    from reptile_np.pretrained import saved_run

    ops = choose_ops(args.ops, args.threads)
    if args.ops == "auto" and (missing := kernels_missing()):
        note(missing)
    signals.raise_instead()  # to end the processes that share the tasks
    options = {name: getattr(args, name) for name in ("data", "tasks", "shots", "split", "jobs", "quiet")}
    if args.compare is not None:
        return _compare(args, ops, options)
    result = runs.evaluate(saved_run(args.run), ops, settings=args.set, curve=args.curve, **options)
    if args.json:
        show_json(result)
    elif "error" in result:
        before, after = f"{result['error_before']:.3f}", f"{result['error']:.3f}"
        points = f"{result['shots']} point{'s' * (result['shots'] != 1)}"
        about = f"{_tasks(result)}, {points} each"
        show(f"squared error {before}, after fine-tuning {after} ({about})")
    else:
        show(_what_was_evaluated(result, args.split))
        for mode, accuracy in result["accuracy"].items():
            show(f"{mode.replace('_', '-'):>16}: {interval(accuracy['mean'], accuracy['ci95'], 2)}")
    if args.curve and not args.json:
        show("after 0, 1, 2, … inner steps:")
        for mode, points in result["curve"].items():
            texts = (f"{p:.3f}" if mode == "error" else f"{p['mean']:.1%}" for p in points)
            label = f"{mode.replace('_', '-'):>16}: "
            show(textwrap.fill(" ".join(texts), WIDTH, initial_indent=label, subsequent_indent=18 * " "))
    return 0


def _compare(args: argparse.Namespace, ops: Ops, options: Mapping[str, Any]) -> int:
    from reptile_np.experiments import paired
    from reptile_np.pretrained import saved_run

    if args.curve or args.set:
        raise UsageError(f"{'--curve' if args.curve else '--set'} and --compare: choose one of them")
    result = paired.compare((saved_run(args.run), saved_run(args.compare)), ops, **options)
    if args.json:
        show_json(result)
        return 0
    about = _what_was_evaluated(result, args.split)
    show(f"{printable(args.run)} minus {printable(args.compare)}: {about}")
    for mode, difference in result["difference"].items():
        a, b = (result[name]["accuracy"][mode]["mean"] for name in "ab")
        half = difference["ci95"]
        width = "(one task: no interval)" if half is None else f"± {half:.2%}"
        show(f"{mode.replace('_', '-'):>16}: {a:.2%} - {b:.2%} = {difference['mean']:+.2%} {width}")
    return 0


def _what_was_evaluated(result: Mapping[str, Any], split: str) -> str:
    return f"{result['shots']}-shot {result['ways']}-way, {_tasks(result)} of the {split} set"


def _tasks(result: Mapping[str, Any]) -> str:
    return f"{result['tasks']} task{'s' * (result['tasks'] != 1)}"


def interval(mean: float, half: float, digits: int) -> str:
    """Return an accuracy with its 95 % interval: "95.5% ± 0.2%", or the interval's ends, cut at 0 and 100 %.

    Parameters
    ----------
    mean, half
        Fractions; `half` is half of the interval's width.
    digits
        After the decimal point.
    """
    if mean - half >= 0 and mean + half <= 1:
        return f"{mean:.{digits}%} ± {half:.{digits}%}"
    low, high = max(mean - half, 0.0), min(mean + half, 1.0)
    return f"{mean:.{digits}%} ({low:.{digits}%} to {high:.{digits}%})"
