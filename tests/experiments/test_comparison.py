"""Ours beside theirs: the arithmetic of a row, and how rows are written."""

import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reptile_np.experiments import comparison
from reptile_np.experiments.comparison import Row, rows, to_json, to_markdown, to_text
from reptile_np.experiments.presets import get
from reptile_np.experiments.reproduction import PlannedRun
from reptile_np.experiments.run_directory import RunDirectory
from reptile_np.experiments.settings import to_json as settings_to_json
from reptile_np.experiments.targets import TARGETS


def recorded(folder, name, seed, scores):
    """A run with evaluations, K → (mean, ci95) for both modes, and no checkpoint."""
    preset = get(name)
    directory = RunDirectory(folder / f"{name}-seed{seed}")
    with directory.begin(preset, seed):
        for shots, (mean, ci95) in scores.items():
            modes = {mode: {"mean": mean, "ci95": ci95} for mode in comparison.MODE_ORDER}
            evaluation = {"split": "test", "tasks": 10_000, "shots": shots, "accuracy": modes}
            directory.append({"outer_step": preset.outer.steps, "evaluation": evaluation})
    return PlannedRun(preset, seed, directory.path, TARGETS["table2"].evaluations(preset))


def test_a_row_is_the_mean_the_deviation_over_seeds_and_the_interval_of_the_mean(tmp_path):
    name = "omniglot-5way"
    runs = [
        recorded(tmp_path, name, seed, {1: (mean, 0.004), 5: (0.99, 0.001)})
        for seed, mean in ((0, 0.95), (1, 0.97), (2, 0.96))
    ]
    row = rows(TARGETS["table2"], runs)[0]
    assert (row.preset, row.what, row.seeds) == (name, "1-shot non-transductive", (0, 1, 2))
    assert row.mean == pytest.approx(96)
    assert row.spread == pytest.approx(1)
    assert row.interval == pytest.approx(0.4 / math.sqrt(3))
    assert (row.paper, row.plus_minus) == (95.39, 0.09)
    assert row.difference == pytest.approx(0.61)
    assert row.within is True  # 0.61 ≤ 0.09 + 1


def test_a_single_seed_has_no_spread_and_is_compared_by_its_interval(tmp_path):
    (row, *_) = rows(TARGETS["table2"], [recorded(tmp_path, "omniglot-5way", 0, {1: (0.96, 0.004)})])
    assert row.spread is None
    assert row.interval == pytest.approx(0.4)
    assert row.within is False  # 0.61 > 0.09 + 0.4


def test_equal_seeds_have_the_spread_zero_and_are_compared_by_it(tmp_path):
    runs = [recorded(tmp_path, "omniglot-5way", seed, {1: (0.955, 0.01)}) for seed in (0, 1)]
    (row, *_) = rows(TARGETS["table2"], runs)
    assert (row.spread, row.within) == (0, False)  # 0.11 > 0.09 + 0, but not > 0.09 + 0.7


def test_the_seconds_are_the_mean_over_the_runs_that_are_trained_evaluated_or_not(tmp_path):
    runs = [
        recorded(tmp_path, "omniglot-5way", seed, {1: (0.96, 0.01)} if seed < 2 else {}) for seed in range(3)
    ]
    for run, seconds in zip(runs[1:], (100.0, 300.0), strict=True):
        RunDirectory(run.path).write_json("result.json", {"outer_steps": 100_000, "seconds": seconds})
    (row, *_) = rows(TARGETS["table2"], runs)
    assert (row.seeds, row.seconds) == ((0, 1), 200)


def test_a_cell_that_was_not_evaluated_is_empty(tmp_path):
    table = rows(TARGETS["table2"], [recorded(tmp_path, "omniglot-5way", 0, {1: (0.96, 0.004)})])
    assert [(row.what, row.seeds, row.mean, row.within) for row in table[2:]] == [
        ("5-shot non-transductive", (), None, None),
        ("5-shot transductive", (), None, None),
    ]


def test_the_rows_are_in_the_target_s_order_whatever_the_order_of_the_runs(tmp_path):
    names = ("omniglot-20way", "omniglot-5way")
    runs = [recorded(tmp_path, name, seed, {1: (0.9, 0.004)}) for seed in (1, 0) for name in names]
    table = rows(TARGETS["table2"], runs)
    assert [(row.preset, row.seeds) for row in table[::4]] == [
        ("omniglot-5way", (0, 1)),
        ("omniglot-20way", (0, 1)),
    ]


@given(
    st.floats(20, 80), st.floats(-1.5, 1.5), st.floats(0, 5), st.one_of(st.none(), st.floats(0, 5)),
    st.floats(0, 5),
)  # fmt: skip
@example(96.0, 6 / 7, 0.3, 0.4, 1.0)  # the sum of the two, not the root of the sum of their squares
def test_within_means_that_the_two_intervals_meet(theirs, share, plus_minus, spread, interval):
    half = interval if spread is None else spread
    ours = theirs + share * (plus_minus + half)
    row = Row("x", "y", (0,), ours, spread, interval, theirs, plus_minus)
    assert row.within == (abs(ours - theirs) <= plus_minus + half)


def test_the_text_fits_80_columns_and_all_forms_hold_the_same_numbers(tmp_path):
    runs = [
        recorded(tmp_path, name, seed, {spec.shots: (0.9876, 0.0012)})
        for name in TARGETS["table2"].presets
        for seed in (0, 1)
        for spec in TARGETS["table2"].evaluations(get(name))[:1]
    ]
    table = rows(TARGETS["table2"], runs)
    lines = list(to_text("Table 2: Omniglot", table))
    assert max(map(len, lines)) <= 80
    markdown = to_markdown("Table 2: Omniglot", table)
    for row in table:
        assert json.loads(json.dumps(to_json(row)))["mean"] == row.mean
        if row.mean is not None:
            assert any(f"{row.what} " in line and f"{row.mean:.2f}" in line for line in lines)
            (line,) = [x for x in markdown.splitlines() if f"`{row.preset}` | {row.what} |" in x]
            assert f"| {row.mean:.2f} |" in line
    assert settings_to_json(runs[0].preset)["name"] in markdown


def test_one_published_number_in_a_table_is_enough_to_show_the_paper_s_columns():
    table = [Row("x", "1-shot", (0,), 96.0, paper=95.0), Row("x", "5-shot", (0,), 99.0)]
    assert comparison.columns(table) is comparison.PAPER
    assert comparison.columns(table[1:]) is comparison.COST


def test_a_table_without_published_numbers_shows_what_the_runs_cost(tmp_path):
    target = TARGETS["methods"]
    runs = []
    for name in target.presets:
        preset, path = get(name), tmp_path / f"{name}-seed0"
        directory = RunDirectory(path)
        with directory.begin(preset, 0):
            for shots in target.shots:
                accuracy = {mode: {"mean": 0.9, "ci95": 0.01} for mode in comparison.MODE_ORDER}
                evaluation = {"split": "test", "tasks": target.tasks, "shots": shots, "accuracy": accuracy}
                directory.append({"outer_step": preset.outer.steps, "evaluation": evaluation})
            if name != "methods-joint":
                directory.write_json("result.json", {"outer_steps": 40_000, "seconds": 654.3})
        runs.append(PlannedRun(preset, 0, path, target.evaluations(preset)))
    table = rows(target, runs)
    assert {(row.what, row.mean, row.interval) for row in table} == {
        (f"{shots}-shot {mode}", 90.0, 1.0)
        for shots in (1, 5)
        for mode in ("transductive", "non-transductive")
    }
    assert [row.seconds for row in table[::4]] == [654.3, 654.3, 654.3, None]
    assert {row.gradients for row in table} == {7_800_000}
    lines = list(to_text(target.title, table))
    assert max(map(len, lines)) <= 80
    assert lines[1].split() == ["seeds", "ours", "spread", "95", "%", "gradients", "seconds"]
    assert lines[3].split()[2:] == ["1", "90.00", "–", "1.00", "7,800,000", "654"]
    assert lines[-1].split()[-2:] == ["7,800,000", "–"]
    markdown = to_markdown(target.title, table)
    assert "| gradients | seconds |" in markdown
    assert "paper" not in markdown
