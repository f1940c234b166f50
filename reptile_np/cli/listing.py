"""The commands `list`, `show` and `runs`: the presets, and the runs of a folder.

Verified by ``tests/test_cli.py``.
"""

from __future__ import annotations

import argparse
import dataclasses
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reptile_np.cli.arguments import Commands, add_json, not_empty, path
from reptile_np.cli.terminal import BOLD, WIDTH, command_line, note, paint, show, show_json
from reptile_np.errors import UsageError, printable

__all__ = ["add_to"]

RESULT = "result: accuracy, transductive / non-transductive, or squared error; K: shots"

if TYPE_CHECKING:
    from reptile_np.experiments.presets import Preset
    from reptile_np.experiments.run_list import RunSummary


def add_to(commands: Commands) -> None:
    """Add the commands."""
    stopped = "stopped"
    add_json(commands.add("list", _list, "every preset and its cost; the available kernels", stopped))

    one = commands.add("show", _show, "all values of one preset, their source and its cost", stopped)
    one.add_argument("preset", help="a name that reptile-np list prints")
    add_json(one)

    runs = commands.add("runs", _runs, "the runs in a folder: outer steps done and accuracy", stopped)
    runs.add_argument("directory", type=path, metavar="DIR", help="a folder with runs in it, at any depth")
    runs.add_argument(
        "--compare",
        nargs=2,
        type=not_empty,
        metavar=("A", "B"),
        help="print in which values the runs A and B differ",
    )
    runs.add_argument(
        "--export", type=path, metavar="TO", help="copy the records of the runs to TO, without large files"
    )
    add_json(runs)


def _list(args: argparse.Namespace) -> int:
    from reptile_np.experiments.backend import kernels_missing
    from reptile_np.experiments.presets import PRESETS, describe
    from reptile_np.nn import native

    kernels = ["numpy", *(f"native-{isa}" for isa in native.available())]
    if args.json:
        show_json({"presets": [describe(preset) for preset in PRESETS.values()], "ops": kernels})
        return 0
    names = [*PRESETS, *_families()]
    name_width = max(map(len, names))
    cost_width = max(len(preset.cost) for preset in PRESETS.values())
    about_width = WIDTH - name_width - cost_width - 6

    def row(name: str, about: str, cost: str) -> None:
        first, *more = textwrap.wrap(about, about_width)
        show(f"  {name:{name_width}}  {first:{about_width}}  {cost:>{cost_width}}")
        for line in more:
            show(f"  {'':{name_width}}  {line}")

    for heading, group in _groups():
        show(paint(heading, BOLD))
        for name in group:
            row(name, PRESETS[name].about, PRESETS[name].cost)
        for line in _sources(group):
            show(
                textwrap.fill(
                    line, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
                )
            )
    show(paint("Methods at the same k (reptile-np reproduce same-k, same-k-omniglot)", BOLD))
    for name, family in _families().items():
        row(name, f"{family[0].algorithm}, {len(family)} preset{'s' * (len(family) > 1)}", family[-1].cost)
    show("\nThe last column is roughly the time on one core with native kernels; in a row")
    show("of several presets, that of the longest.")
    show(f"kernels: {', '.join(kernels)}")
    if missing := kernels_missing():
        note(missing)
    return 0


def _groups() -> Iterator[tuple[str, list[str]]]:
    """Yield the listed presets in groups: the tables and figures of the paper, then ours."""
    from reptile_np.experiments.presets import PRESETS
    from reptile_np.experiments.targets import TARGETS

    others = list(PRESETS)
    for target in TARGETS.values():
        if group := [name for name in target.presets if name in PRESETS]:
            yield f"{target.title} (reptile-np reproduce {target.name})", group
        if target.name == "figure1":
            yield "Figure 2: alternating projections (reptile-np figure 2, without training)", []
        others = [name for name in others if name not in group]
    yield "Not in the paper", others


def _sources(group: Sequence[str]) -> list[str]:
    """Return lines that say where the values of some presets come from."""
    from reptile_np.experiments.presets import PRESETS

    sources: dict[str, list[str]] = {}
    for name in group:
        sources.setdefault(PRESETS[name].source, []).append(name)
    if len(sources) == 1:
        return [f"source: {source}" for source in sources]
    return [f"source of {', '.join(names)}: {source}" for source, names in sources.items()]


def _families() -> dict[str, list[Preset]]:
    """Return the presets of the same-k study by the name of their family, such as same-k-glyphs-maml-k1…8."""
    from reptile_np.experiments.presets import SAME_K

    families: dict[str, list[Preset]] = {}
    for name, preset in SAME_K.items():
        families.setdefault(name.rpartition("-k")[0], []).append(preset)
    return {
        f"{stem}-k1{f'…{len(family)}' if len(family) > 1 else ''}": family
        for stem, family in families.items()
    }


def _show(args: argparse.Namespace) -> int:
    from reptile_np.experiments import presets

    values = presets.describe(presets.get(args.preset))
    if args.json:
        show_json(values)
        return 0
    rows = list(_flat(values))
    width = max(len(key) for key, _ in rows)
    for key, value in rows:
        indent = " " * (width + 2)
        text = textwrap.fill(
            f"{key:{width}}  {value}", WIDTH, subsequent_indent=indent, break_on_hyphens=False
        )
        show(text.replace(key, paint(key, BOLD), 1))
    return 0


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return the values with dotted keys, as --set takes them."""
    rows: list[tuple[str, Any]] = []
    for key, value in values.items():
        rows += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return rows


def _runs(args: argparse.Namespace) -> int:
    from reptile_np.experiments import run_list

    if args.compare:
        if args.export:
            raise UsageError("--compare and --export: choose one of them")
        return _compare(args)
    summaries = run_list.find(args.directory)
    if args.export:
        return _export(args, summaries)
    if args.json:
        show_json({"runs": [_json(summary) for summary in summaries]})
        return 0
    table = [("run", "preset", "seed", "steps", "result", "K, tasks")]
    table += [
        (
            printable(summary.name),
            printable(summary.preset),
            str(summary.seed),
            _steps(summary),
            _result(summary),
            f"{summary.shots}, {summary.tasks:,}" if summary.tasks else "",
        )
        for summary in summaries
    ]
    for line in _columns(table):
        show(line)
    show(f"\n{RESULT}")
    return 0


def _export(args: argparse.Namespace, runs: Sequence[RunSummary]) -> int:
    from reptile_np.experiments.records import export, is_copy

    to = args.export.resolve()
    there = [run for run in runs if run.path.resolve() == to / f"{run.preset}-seed{run.seed}"]
    runs = [run for run in runs if run not in there] or there  # copies alone are refused by `export`
    of: dict[tuple[str, int], RunSummary] = {}
    for run in sorted(runs, key=lambda run: is_copy(run.path)):  # a copy after the run itself
        first = of.setdefault((run.preset, run.seed), run)
        of_first = is_copy(run.path) and not is_copy(first.path) and run.settings == first.settings
        if first is not run and not of_first:
            both = f"{printable(first.path)} and {printable(run.path)}"
            one = command_line(["runs", str(first.path), "--export", str(args.export)])
            raise UsageError(
                f"--export: {both} are {run.preset} with seed {run.seed}; export one of them, as in: {one}"
            )
    copies = [str(export(run.path, args.export)) for run in runs if run in of.values()]
    if args.json:
        show_json({"exported": copies})
    else:
        for copy in copies:
            show(copy)
    return 0


def _compare(args: argparse.Namespace) -> int:
    from reptile_np.experiments import run_list

    a, b = (run_list.read(_place(args.directory, name), args.directory) for name in args.compare)
    if args.json:
        show_json({"compare": [_json(a), _json(b)]})
        return 0
    settings = [dict(_flat(summary.settings)) for summary in (a, b)]
    table = [("", printable(a.name), printable(b.name))]
    table += [("seed", str(a.seed), str(b.seed)), ("steps done", f"{a.outer_steps:,}", f"{b.outer_steps:,}")]
    for key in settings[0]:  # every run has a value of every setting
        values = [str(each[key]) for each in settings]
        if values[0] != values[1]:
            table.append((key, printable(values[0]), printable(values[1])))
    tasks = [f"{each.tasks:,}" if each.tasks else "-" for each in (a, b)]
    table += [
        ("result", _result(a), _result(b)),
        ("K", str(a.shots), str(b.shots)),
        ("tasks", tasks[0], tasks[1]),
    ]
    for line in _columns(table):
        show(line)
    show(f"\n{RESULT}")
    return 0


def _place(directory: Path, name: str) -> Path:
    """Return the directory of the run called `name`: under `directory`, or a path of its own."""
    for place in (directory / name, Path(name)):
        if (place / "config.json").is_file():
            return place
    raise UsageError(
        f"--compare {name}: no run of that name under {directory} (see: reptile-np runs {directory})"
    )


def _json(summary: RunSummary) -> dict[str, Any]:
    return {**dataclasses.asdict(summary), "path": str(summary.path)}


def _steps(summary: RunSummary) -> str:
    done, planned = summary.outer_steps, summary.outer_steps_planned
    return f"{done:,}" if done == planned else f"{done:,} of {planned:,}"


def _result(summary: RunSummary) -> str:
    """Return the transductive and the non-transductive accuracy, or the squared error."""
    if summary.error is not None:
        return f"error {summary.error:.3f}"
    if summary.accuracy is None:
        return "not finished"
    modes = ("transductive", "non_transductive")
    return " / ".join(f"{summary.accuracy[mode]:.1%}" for mode in modes if mode in summary.accuracy)


def _columns(table: Sequence[Sequence[str]]) -> list[str]:
    """Return lines in columns; the first is the heading."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in table]
    return [paint(lines[0], BOLD), *lines[1:]]
