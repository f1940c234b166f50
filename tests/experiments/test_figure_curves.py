"""Bands, bars and curves of the figures are those of their tables, and these of the recorded evaluations."""

import numpy as np
import pytest

from reptile_np.errors import UsageError
from reptile_np.experiments import runs
from reptile_np.experiments.comparison import Row
from reptile_np.experiments.figures import figure_3, inner_curve, same_k, sources, style
from reptile_np.experiments.figures.style import Table
from reptile_np.experiments.presets import get
from reptile_np.experiments.run_directory import RunDirectory
from reptile_np.nn.ops import NUMPY
from tests.experiments.small import small


def band(axes, number=0):
    """The least and the largest height of a band at each place."""
    heights = {}
    for x, y in axes.collections[number].get_paths()[0].vertices:
        heights.setdefault(round(x, 9), []).append(y)
    return [value for x in sorted(heights) for value in (min(heights[x]), max(heights[x]))]


def axes_of(module, table):
    from matplotlib.figure import Figure

    figure = Figure()
    module.draw(figure, table, style.THEMES[""])
    return figure.axes


def test_figure_3_s_band_is_one_standard_deviation_to_each_side_in_per_cent():
    columns = ("curve", "seeds", "outer_step", "accuracy", "deviation")
    rows = (("g1", 1, 400, 0.5, 0.125), ("g1", 1, 800, 0.75, 0.0625))
    whole, upper = axes_of(figure_3, Table(columns, rows))
    assert band(whole) == [37.5, 62.5, 68.75, 81.25]
    assert not upper.collections
    for axes in (whole, upper):
        np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[0.4, 50], [0.8, 75]])


def test_the_inner_curve_s_band_is_the_interval_in_per_cent():
    table = inner_curve.table({"run": {"transductive": [(0.25, 0.125), (0.75, 0.0625)]}})
    for axes in axes_of(inner_curve, table):
        assert band(axes) == [12.5, 37.5, 68.75, 81.25]
        np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[0, 25], [1, 75]])


def test_the_bars_at_the_same_k_are_one_standard_deviation_to_each_side():
    rows = [
        Row("same-k-glyphs-maml-k2", "1-shot transductive", (0, 1), 91.5, 0.25),
        Row("same-k-glyphs-joint-k1", "1-shot transductive", (0,), 60.0),
    ]
    (axes,) = axes_of(same_k, same_k.table(rows))
    assert axes.figure.get_suptitle().startswith("Glyphs: ")
    (bar,) = axes.containers[0][2][0].get_segments()
    assert bar.tolist() == [[2, 91.25], [2, 91.75]]
    assert set(axes.lines[-1].get_ydata()) == {60.0}


def test_the_deviation_of_a_single_seed_is_0_whatever_its_interval():
    row = Row("same-k-glyphs-maml-k2", "1-shot transductive", (0,), 91.5, spread=None, interval=0.25)
    assert same_k.table([row]).rows == (("glyphs", "maml", 2, "transductive", 1, 91.5, 0.0),)


def test_more_curves_than_colours_are_refused():
    points = {"transductive": [(0.2, 0.1), (0.5, 0.1)]}
    table = inner_curve.table({f"run {i}": points for i in range(7)})
    with pytest.raises(UsageError, match="7 curves; at most 6"):
        inner_curve.draw(None, table, {})


def evaluated(path, seed, *, tasks=(100,), mean=0.5, shots=1):
    """A finished run with a recorded test curve of each number of tasks."""
    preset = get("glyphs-5way")
    directory = RunDirectory(path)
    with directory.begin(preset, seed):
        for count in tasks:
            score = {"mean": mean + count / 1e6, "ci95": 0.01}
            scores = {"accuracy": {"transductive": score}, "curve": {"transductive": [score] * 3}}
            about = {"preset": preset.name, "split": "test", "tasks": count, "shots": shots}
            directory.append({"outer_step": preset.outer.steps, "evaluation": about | scores})
        directory.write_json("result.json", {"outer_steps": preset.outer.steps, "seconds": 1.0})


def test_runs_of_several_seeds_have_a_curve_each_called_after_the_run(tmp_path):
    for seed, mean in enumerate((0.25, 0.5, 0.75)):
        evaluated(tmp_path / f"glyphs-5way-seed{seed}", seed, tasks=[0], mean=mean)
    table = sources.table("curve", tmp_path, NUMPY)
    drawn = {run: table.where(run=run)[0][3] for run in table.distinct("run")}
    assert drawn == {f"glyphs-5way-seed{i}, 1-shot": mean for i, mean in enumerate((0.25, 0.5, 0.75))}


def test_runs_of_one_preset_that_were_evaluated_at_other_k_are_called_after_the_preset(tmp_path):
    for shots in (1, 5):
        evaluated(tmp_path / f"run{shots}", 0, shots=shots)
    table = sources.table("curve", tmp_path, NUMPY)
    assert table.distinct("run") == ["glyphs-5way, 1-shot", "glyphs-5way, 5-shot"]


@pytest.mark.parametrize("tasks", [(10_000, 10), (10, 10_000), (10, 10_000, 100)])
def test_a_run_s_curve_is_that_of_the_most_tasks(tmp_path, tasks):
    evaluated(tmp_path / "run", 0, tasks=tasks)
    assert {row[3] for row in sources.table("curve", tmp_path, NUMPY).rows} == {0.5 + 0.01}


def test_of_two_evaluations_of_as_many_tasks_a_run_s_curve_is_that_of_the_latest(tmp_path):
    evaluated(tmp_path / "run", 0)
    (record,) = RunDirectory(tmp_path / "run").records()
    record["evaluation"]["curve"]["transductive"] = [{"mean": 0.75, "ci95": 0.01}] * 3
    RunDirectory(tmp_path / "run").append(record)
    assert {row[3] for row in sources.table("curve", tmp_path, NUMPY).rows} == {0.75}


@pytest.mark.parametrize(
    ("step", "change"),
    [(1, {}), (4, {"split": "train"}), (4, {"split": "validation"}), (4, {"other_images": True})],
)
def test_the_inner_curve_is_only_that_of_the_last_state_on_the_test_classes(tmp_path, step, change):
    runs.train(small("glyphs-5way"), 0, NUMPY, out=tmp_path / "run", quiet=True)
    runs.evaluate(tmp_path / "run", NUMPY, tasks=1, curve=True, jobs=1, quiet=True)
    alone = sources.table("curve", tmp_path, NUMPY)
    directory = RunDirectory(tmp_path / "run")
    evaluation = directory.records()[-1]["evaluation"]
    curve = {mode: [{"mean": 2.0, "ci95": 0.0}] * 5 for mode in evaluation["curve"]}
    directory.append({"outer_step": step, "evaluation": {**evaluation, "curve": curve, **change}})
    assert sources.table("curve", tmp_path, NUMPY) == alone


@pytest.mark.parametrize("modes", [("transductive",), ("transductive", "non_transductive")])
def test_a_table_of_curves_has_a_row_for_each_step(modes):
    curves = {"run": {mode: [(0.2, 0.01), (0.9, 0.02)] for mode in modes}}
    assert len(inner_curve.table(curves).rows) == 2 * len(modes)
