"""Each record that a document cites exists, and says what the document says.

A table between ``<!-- reproduce ARGUMENTS -->`` and ``<!-- end -->`` must be, character for character, what
``reptile-np reproduce --out benchmarks/runs ARGUMENTS --table --markdown FILE`` writes.
"""

import json
import math
import re
from pathlib import Path

import pytest

from reptile_np.cli import main
from reptile_np.experiments.run_directory import RunDirectory
from reptile_np.experiments.settings import from_json
from reptile_np.pretrained import weights

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "benchmarks" / "runs"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "benchmarks").glob("*.md"))]
TABLE = re.compile(r"<!-- reproduce (?P<arguments>.*?) -->\n(?P<table>.*?)\n<!-- end -->", re.DOTALL)
RECORDS = sorted(path.parent for path in RUNS.parent.glob("runs*/*/config.json"))
USERS_OWN = {"runs/o5", "runs/photos"}  # directories in examples of commands, which the reader makes
MOST_BYTES = 1_000_000


def tables():
    return [
        pytest.param(match["arguments"].split(), match["table"], id=f"{path.name}: {match['arguments']}")
        for path in DOCUMENTS
        if path.exists()
        for match in TABLE.finditer(path.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize(("arguments", "table"), tables())
def test_a_table_in_a_document_is_what_the_records_say(arguments, table, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    written = str(tmp_path / "table.md")
    command = ["reproduce", "--out", "benchmarks/runs", *arguments, "--table", "--markdown", written]
    assert main(command) == 0
    assert table.strip() == (tmp_path / "table.md").read_text(encoding="utf-8").strip()
    assert re.search(r"\| [1-9]\d* \|", table), "no seed of this table is done"


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path.exists()], ids=lambda path: path.name)
def test_every_record_and_figure_that_a_document_names_exists(path):
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"\b((?:benchmarks/)?(?:runs|figures)/[\w.-]*[\w])", text):
        where = [ROOT / name, path.parent / name] if name.startswith("benchmarks") else [path.parent / name]
        if name.split("/")[-1] in ("runs", "figures") or name in USERS_OWN:
            continue
        there = any(place.exists() or list(place.parent.glob(f"{place.name}.*")) for place in where)
        assert there, f"{path.name} names {name}"


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.name)
def test_a_record_is_whole_small_and_named_after_its_run(path):
    directory = RunDirectory(path)
    preset, seed = directory.config()
    assert path.name == f"{preset.name}-seed{seed}"
    assert directory.sittings()
    lines = (path / "records.jsonl").read_text().splitlines()
    assert directory.records() == [json.loads(line) for line in lines]
    result = directory.result()
    assert result is None or result["outer_steps"] == preset.outer.steps
    assert (path / "checkpoint.npz").exists() <= (result is None)
    assert sum(file.stat().st_size for file in path.iterdir()) < MOST_BYTES


@pytest.mark.parametrize(
    "path", sorted(RUNS.parent.glob("runs*/*/weights.npz")), ids=lambda path: path.parent.name
)
def test_the_weights_beside_a_record_are_those_of_its_run(path):
    directory = RunDirectory(path.parent)
    preset, seed = directory.config()
    record = weights.read(path).record
    assert (from_json(record["preset"]), record["seed"], record["result"]) == (
        preset,
        seed,
        directory.result(),
    )
    assert record["evaluations"] == [r["evaluation"] for r in directory.records() if "evaluation" in r]


def test_the_accuracies_after_500_outer_steps_are_those_of_the_short_runs():
    lines = (ROOT / "benchmarks/results/short_runs.jsonl").read_text().splitlines()
    runs = [run for run in map(json.loads, filter(None, lines)) if run.get("outer_steps") == 500]
    text = (ROOT / "benchmarks/reproduction.md").read_text(encoding="utf-8")
    (torch,) = [run for run in runs if "torch" in run]
    ours = [run for run in runs if "torch" not in run]
    for mode in ("non_transductive", "transductive"):
        one_shot = [run["accuracy"][mode]["mean"] for run in ours if run.get("shots") == 1]
        five_shot = [run["accuracy"][mode] for run in ours if "shots" not in run]
        for shots, means in ((1, one_shot), (5, five_shot)):
            other = torch[f"{shots}-shot"][mode]
            seeds = ", ".join(f"{mean:.1%}" for mean in means).replace("%", "")
            row = f"| {shots}-shot {mode.replace('_', '-')} | {seeds} (± "
            (shown,) = [line for line in text.splitlines() if line.startswith(row)]
            assert f"| {100 * other['mean']:.1f} ± {100 * other['ci95']:.1f} |" in shown


def test_the_short_runs_with_direct_convolutions_have_the_documented_accuracy_within_twice_its_interval():
    """Within twice the intervals over tasks, which do not know of the chance in the training."""
    lines = (ROOT / "benchmarks/results/short_runs.jsonl").read_text().splitlines()
    pairs = [pair for pair in map(json.loads, filter(None, lines)) if "difference" in pair]
    text = (ROOT / "benchmarks/reproduction.md").read_text(encoding="utf-8")
    for shots in (1, 5):
        seeds = [pair for pair in pairs if pair["shots"] == shots]
        assert [pair["a"]["seed"] for pair in seeds] == [pair["b"]["seed"] for pair in seeds] == [0, 1, 2]
        for mode in ("non_transductive", "transductive"):
            means = [[pair[run]["accuracy"][mode]["mean"] for run in "ab"] for pair in seeds]
            differences = [pair["difference"][mode] for pair in seeds]
            mean = sum(difference["mean"] for difference in differences) / 3
            ci95 = math.hypot(*(difference["ci95"] for difference in differences)) / 3
            cells = " | ".join(f"{100 * a:.1f}, {100 * b:.1f}" for a, b in means)
            name = f"{shots}-shot {mode.replace('_', '-')}"
            assert f"| {name} | {cells} | {100 * mean:+.1f} ± {100 * ci95:.1f} |" in text
            assert abs(mean) <= 2 * ci95
