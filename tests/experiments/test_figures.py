"""Figures: what the numbers are, and that each figure is made by one command."""

import builtins
import csv
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.cli import main
from reptile_np.errors import UsageError
from reptile_np.experiments import presets, runs
from reptile_np.experiments.comparison import Row
from reptile_np.experiments.figures import figure_1, figure_2, figure_3, inner_curve, same_k, sources, style
from reptile_np.experiments.figures.style import Table, to_csv
from reptile_np.experiments.presets import get
from reptile_np.experiments.run_directory import RunDirectory
from reptile_np.nn import models
from reptile_np.nn.ops import NUMPY
from reptile_np.tasks.sine import INTERVAL
from tests.experiments.small import experiment, small

numbers = st.floats(-1e6, 1e6).map(lambda x: float(f"{x:.6g}"))
words = st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1).filter(
    lambda text: value(text) == text and text == text.strip()
)


def value(text):
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def from_csv(path):
    """The table that `to_csv` wrote; what reads as a number is one."""
    with path.open(newline="") as file:
        columns, *rows = csv.reader(file)
    return Table(tuple(columns), tuple(tuple(map(value, row)) for row in rows))


@pytest.fixture(autouse=True)
def matplotlib(request):
    if "without" not in request.node.name:
        pytest.importorskip("matplotlib")


# The numbers


def test_figure_2_s_path_ends_at_the_point_of_least_mean_squared_distance():
    table = figure_2.table()
    (*_, end), (limit,) = (
        [np.array(point) for _, _, *point in table.where(part=part)] for part in ("path", "limit")
    )
    assert np.linalg.norm(end - limit) < 0.05

    def distance(point):
        return sum(np.linalg.norm(point - curve.project(point)) ** 2 for curve in figure_2.CURVES)

    around = [limit + 0.1 * np.array([np.cos(a), np.sin(a)]) for a in np.linspace(0, 6.28, 50)]
    assert all(distance(limit) < distance(point) for point in around)
    assert distance(figure_2.START) > 4 * distance(end)


def test_figure_2_s_first_move_is_six_tenths_of_the_way_to_the_nearest_solution_of_task_a():
    (_, _, *start), (_, _, *first), *_ = figure_2.table().where(part="path")
    away = np.array(start) - [-3.4, -0.9]
    nearest = [-3.4, -0.9] + 2.0 * away / np.hypot(*away)
    assert start == [2.2, 3.9]
    np.testing.assert_allclose(first, start + 0.6 * (nearest - start), rtol=1e-12)


def test_figure_2_s_table_has_both_curves_the_path_and_its_limit():
    table = figure_2.table()
    assert len(table.where(part="path")) == figure_2.MOVES + 1
    assert len(table.where(part="limit")) == 1
    for task, curve in zip("AB", figure_2.CURVES, strict=True):
        points = np.array([row[2:] for row in table.where(part=f"solutions of task {task}")])
        np.testing.assert_allclose(np.hypot(*(points - curve.centre).T), curve.radius)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(1, 9))
def test_smoothing_keeps_a_constant_the_start_and_the_order_of_the_steps(values, window):
    points = [(10 * i, value) for i, value in enumerate(values)]
    smoothed = figure_3.smooth([points], window)
    assert [step for step, _, _ in smoothed] == [step for step, _ in points]
    assert smoothed[0][1:] == (values[0], 0.0)  # at the start the window is the point alone
    last = values[-1 - min(window // 2, len(values) - 1) :]  # at the end it is cut
    assert smoothed[-1][1:] == pytest.approx((np.mean(last), np.std(last)))
    constant = figure_3.smooth([[(step, 0.25) for step, _ in points]] * 3, window)
    assert all((mean, deviation) == (0.25, 0.0) for _, mean, deviation in constant)


def test_a_smoothed_point_is_the_mean_and_deviation_over_the_window_and_all_runs():
    rng = np.random.default_rng(0)
    values = rng.random((3, 12))
    curves = [list(enumerate(row.tolist())) for row in values]
    for i, mean, deviation in figure_3.smooth(curves, 5)[2:-2]:
        part = values[:, i - 2 : i + 3]
        assert (mean, deviation) == pytest.approx((part.mean(), part.std()))


def test_a_point_of_figure_3_averages_seven_evaluations_of_every_seed():
    jump = [(i, float(i == 10)) for i in range(20)]
    table = figure_3.table({"g1": [jump, jump], "g2": []})
    assert table.distinct("curve") == ["g1"]
    expected = [1 / 7 if 7 <= i <= 13 else 0 for i in range(20)]
    assert [row[3] for row in table.rows] == pytest.approx(expected)
    assert {row[1] for row in table.rows} == {2}


def test_runs_that_were_evaluated_after_different_steps_are_not_averaged():
    with pytest.raises(UsageError, match="different outer steps"):
        figure_3.smooth([[(1, 0.5)], [(2, 0.5)]])


def test_an_evaluation_that_one_run_lacks_is_left_out_of_the_curve():
    whole = [(i, float(i)) for i in range(5)]
    lacks_one = [point for point in whole if point[0] != 2]
    assert figure_3.smooth([whole, lacks_one], 1) == figure_3.smooth([lacks_one, lacks_one], 1)
    with pytest.raises(UsageError, match="different outer steps; each needs its last evaluation"):
        figure_3.smooth([whole, whole[:-1]])


def test_figure_1_s_first_curve_is_the_initialisation_and_its_points_are_of_the_wave():
    model = models.sine_mlp()
    phi = model.init(np.random.default_rng(0))
    table = figure_1.table(model, {"random": phi})
    before = np.array([row[3] for row in table.where(curve="step 0")])
    line = np.linspace(*INTERVAL, 201)[:, np.newaxis].astype(phi.dtype)
    np.testing.assert_array_equal(before, model.predict(phi, line)[:, 0])
    points = np.random.default_rng(0).uniform(-5, 5, (10, 1))
    drawn = np.array([row[2:] for row in table.where(curve="points")])
    on_the_wave = np.hstack([points, 3.5 * np.sin(points + 1.0)])
    np.testing.assert_array_equal(drawn, on_the_wave.astype(phi.dtype))


def test_figure_1_s_curves_are_predictions_after_so_many_steps_of_sgd_at_2_hundredths_on_all_its_points():
    model = models.sine_mlp()
    phi = model.init(np.random.default_rng(0))
    table = figure_1.table(model, {"random": phi}, seed=3)
    points = np.random.default_rng(3).uniform(-5, 5, (10, 1))
    batch = points.astype(phi.dtype), (3.5 * np.sin(points + 1.0)).astype(phi.dtype)
    line = np.linspace(-5, 5, 201, dtype=phi.dtype)[:, np.newaxis]
    for step in range(33):
        if step in (0, 1, 8, 32):
            drawn = [row[3] for row in table.where(curve=f"step {step}")]
            np.testing.assert_array_equal(drawn, model.predict(phi, line)[:, 0])
        phi = phi - 0.02 * model.loss_and_grad(phi, batch)[1]
    assert len(table.distinct("curve")) == 2 + 4


def test_the_table_at_the_same_k_has_the_accuracies_of_its_rows():
    rows = [
        Row("same-k-glyphs-maml-k3", "1-shot transductive", (0, 1), 91.5, 0.25),
        Row("same-k-glyphs-joint-k1", "1-shot transductive", (0,), 60.0),
        Row("same-k-glyphs-maml-k4", "1-shot transductive", ()),
    ]
    assert same_k.table(rows).rows == (
        ("glyphs", "maml", 3, "transductive", 2, 91.5, 0.25),
        ("glyphs", "joint", 1, "transductive", 1, 60.0, 0.0),
    )


@given(st.lists(st.tuples(words, st.integers(-999, 999), numbers), max_size=5))
def test_a_csv_file_holds_the_table(tmp_path_factory, rows):
    table = Table(("a", "b", "c"), tuple(rows))
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    path.write_text(to_csv(table), newline="")
    read = from_csv(path)
    assert read.columns == table.columns
    assert [row[:2] for row in read.rows] == [row[:2] for row in rows]
    assert [float(row[2]) for row in read.rows] == [row[2] for row in rows]


# The pictures


def fake_figure_3(folder, evaluations):
    for curve in figure_3.CURVES:
        preset = get(f"figure3-{curve}")
        directory = RunDirectory(folder / f"{preset.name}-seed0")
        with directory.begin(preset, 0):
            for i in range(evaluations):
                accuracy = {"transductive": 0.5, "non_transductive": 0.4 + 0.05 * i}
                directory.append({"outer_step": 400 * (i + 1), "tasks": 100, "accuracy": accuracy})
            directory.write_json("result.json", {"outer_steps": preset.outer.steps, "seconds": 1.0})


def made(name, folder, *options):
    out = folder / f"figure-{name}"
    assert main(["figure", name, "--out", str(out), "--ops", "numpy", "--quiet", *map(str, options)]) == 0
    files = [out.with_name(out.name + end) for end in (".csv", ".png", ".svg", "-dark.png", "-dark.svg")]
    assert all(file.stat().st_size > 100 for file in files)
    return out


@pytest.fixture
def sine_runs(tmp_path, monkeypatch):
    """Runs of the three methods, of presets with fewer steps."""
    for name in sources.SINE.values():
        monkeypatch.setitem(presets.PRESETS, name, small(name))
        runs.train(get(name), 0, NUMPY, out=tmp_path / f"{name}-seed0", quiet=True)


@pytest.mark.usefixtures("sine_runs")
def test_figure_1_is_drawn_from_the_runs_of_the_three_methods(tmp_path):
    out = made("1", tmp_path, "--runs", tmp_path)
    assert from_csv(out.with_suffix(".csv")).distinct("initialisation") == [
        "random parameters",
        *sources.SINE,
    ]


@pytest.mark.usefixtures("sine_runs")
@pytest.mark.parametrize("trained_before", [True, False])
def test_each_panel_of_figure_1_begins_with_the_parameters_of_its_own_method(tmp_path, trained_before):
    """Without runs the methods are trained for it: with the same seed, to the same parameters."""
    table = sources.table("1", tmp_path if trained_before else None, NUMPY, quiet=True)
    begun = {"random parameters": experiment("sine-maml").start()}
    for panel, name in (("joint training", "joint"), ("MAML", "maml"), ("Reptile", "reptile")):
        run = RunDirectory(tmp_path / f"sine-{name}-seed0")
        begun[panel] = run.load(experiment(f"sine-{name}").start())
    line = np.linspace(-5, 5, 201, dtype=np.float32)[:, np.newaxis]
    for panel, step in begun.items():
        drawn = [row[3] for row in table.where(initialisation=panel, curve="step 0")]
        np.testing.assert_array_equal(drawn, models.sine_mlp().predict(step.phi, line)[:, 0])


@pytest.mark.usefixtures("sine_runs")
def test_figure_1_is_not_drawn_from_runs_that_are_not_finished(tmp_path, capsys):
    (tmp_path / "sine-maml-seed0" / "result.json").unlink()
    assert main(["figure", "1", "--runs", str(tmp_path), "--out", str(tmp_path / "x"), "--quiet"]) == 2
    assert "sine-maml-seed0: not a finished run" in capsys.readouterr().err


@pytest.mark.usefixtures("sine_runs")
@pytest.mark.parametrize("name", sources.SINE.values())
def test_figure_1_is_not_drawn_from_a_run_with_other_settings(tmp_path, monkeypatch, name):
    monkeypatch.setitem(presets.PRESETS, name, small(name, "outer.steps=41"))
    with pytest.raises(UsageError, match=f"{name}-seed0: was begun with other settings or another seed; use"):
        sources.table("1", tmp_path, NUMPY, quiet=True)


@pytest.mark.parametrize(("name", "preset"), [("3", "figure3-mean3"), ("same-k", "same-k-glyphs-reptile-k2")])
def test_a_figure_of_several_seeds_is_not_drawn_from_a_run_with_other_settings(tmp_path, name, preset):
    fake_figure_3(tmp_path, 4)
    changed = presets.with_settings(get(preset), ["outer.steps=4000"])
    directory = RunDirectory(tmp_path / f"{preset}-seed1")
    with directory.begin(changed, 1):
        directory.append({"outer_step": 400, "tasks": 100, "accuracy": {"non_transductive": 0.9}})
        directory.write_json("result.json", {"outer_steps": 4000, "seconds": 1.0})
    with pytest.raises(UsageError, match=f"{preset}-seed1: was begun with other settings or another seed; u"):
        sources.table(name, tmp_path, NUMPY)


def test_figure_2_is_the_same_bytes_every_time(tmp_path):
    (tmp_path / "again").mkdir()
    one, other = made("2", tmp_path), made("2", tmp_path / "again")
    for end in (".csv", ".svg", ".png"):
        assert one.with_suffix(end).read_bytes() == other.with_suffix(end).read_bytes()


def test_the_ending_of_a_picture_is_not_repeated(tmp_path):
    assert main(["figure", "2", "--out", str(tmp_path / "two.png")]) == 0
    names = {"two.csv", "two.png", "two.svg", "two-dark.png", "two-dark.svg"}
    assert {file.name for file in tmp_path.iterdir()} == names


def test_figure_2_refuses_runs_which_it_does_not_need(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["figure", "2", "--runs", str(tmp_path)]) == 2
    says = "figure 2 --runs: is for the other figures; leave it out"
    assert capsys.readouterr().err.splitlines() == [f"reptile-np: {says}"]
    assert list(tmp_path.iterdir()) == []


def test_figure_3_says_how_many_seeds_its_curves_have():
    rows = [("g1", 1, 400 * i, 0.5, 0.1) for i in (1, 2)] + [("sum2", 3, 400 * i, 0.9, 0.1) for i in (1, 2)]
    titles = []
    for some in (rows, rows[:2], rows[2:]):
        with style._themed(style.THEMES[""]) as figure:
            made_here = figure(figure_3.SIZE)
            table = Table(("curve", "seeds", "outer_step", "accuracy", "deviation"), tuple(some))
            figure_3.draw(made_here, table, style.THEMES[""])
            titles.append(made_here.get_suptitle().rpartition(", ")[2])
    assert titles == ["1 to 3 seeds", "1 seed", "3 seeds"]


def test_the_command_that_makes_the_runs_can_be_copied_whatever_their_folder_is_called(tmp_path):
    folder = tmp_path / "my runs"
    with pytest.raises(UsageError, match=rf"run: reptile-np reproduce figure3 --out '{folder}'$"):
        sources.table("3", folder, NUMPY)


def test_figure_3_is_drawn_from_the_accuracies_while_training(tmp_path):
    fake_figure_3(tmp_path, 4)
    out = made("3", tmp_path, "--runs", tmp_path)
    table = from_csv(out.with_suffix(".csv"))
    assert table.distinct("curve") == list(figure_3.CURVES)
    assert [row[3] for row in table.where(curve="g2")] == pytest.approx([0.4, 0.45, 0.475, 0.475])


def test_figure_3_leaves_out_a_run_that_is_not_finished(tmp_path):
    fake_figure_3(tmp_path, 4)
    before = sources.table("3", tmp_path, NUMPY)
    preset = get("figure3-g2")
    directory = RunDirectory(tmp_path / f"{preset.name}-seed1")
    with directory.begin(preset, 1):
        for i in range(4):
            accuracy = {"transductive": 0.9, "non_transductive": 0.9}
            directory.append({"outer_step": 400 * (i + 1), "tasks": 100, "accuracy": accuracy})
    assert sources.table("3", tmp_path, NUMPY) == before
    directory.write_json("result.json", {"outer_steps": preset.outer.steps, "seconds": 1.0})
    assert {row[1] for row in sources.table("3", tmp_path, NUMPY).where(curve="g2")} == {2}


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


def test_the_inner_curve_is_drawn_from_the_recorded_evaluations(tmp_path, monkeypatch):
    runs.train(small("glyphs-5way"), 0, NUMPY, out=tmp_path / "run", quiet=True)
    assert main(["figure", "curve", "--runs", str(tmp_path), "--out", str(tmp_path / "x")]) == 2
    result = runs.evaluate(tmp_path / "run", NUMPY, tasks=3, curve=True, jobs=1, quiet=True)
    table = from_csv(made("curve", tmp_path, "--runs", tmp_path).with_suffix(".csv"))
    monkeypatch.chdir(tmp_path)
    assert from_csv(made("curve", tmp_path, "--runs", "run").with_suffix(".csv")) == table  # a relative path
    for mode, points in result["curve"].items():
        for column, key in ((3, "mean"), (4, "ci95")):
            recorded = [row[column] for row in table.where(run="glyphs-5way, 1-shot", mode=mode)]
            assert recorded == [float(f"{point[key]:.6g}") for point in points]


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


@pytest.mark.parametrize(("name", "source"), [("same-k", "glyphs"), ("same-k-omniglot", "omniglot")])
def test_the_figure_at_the_same_k_is_drawn_from_the_records_of_the_study(tmp_path, name, source):
    means = {("reptile", 1): 0.5, ("reptile", 4): 0.75, ("joint", 1): 0.25}
    for (method, k), mean in means.items():
        preset = get(f"same-k-{source}-{method}-k{k}")
        directory = RunDirectory(tmp_path / f"{preset.name}-seed0")
        with directory.begin(preset, 0):
            modes = {mode: {"mean": mean, "ci95": 0.01} for mode in ("transductive", "non_transductive")}
            evaluation = {"split": "test", "tasks": 1000, "shots": 1, "accuracy": modes}
            directory.append({"outer_step": preset.outer.steps, "evaluation": evaluation})
            directory.write_json("result.json", {"outer_steps": preset.outer.steps, "seconds": 1.0})
    table = from_csv(made(name, tmp_path, "--runs", tmp_path).with_suffix(".csv"))
    drawn = {(row[1], row[2]): row[5] / 100 for row in table.where(mode="transductive", images=source)}
    assert drawn == means


def test_a_run_of_the_same_k_that_was_not_evaluated_is_no_run_of_the_study(tmp_path):
    preset = get("same-k-glyphs-maml-k2")
    directory = RunDirectory(tmp_path / f"{preset.name}-seed0")
    with directory.begin(preset, 0):
        directory.append({"outer_step": preset.outer.steps})
        directory.write_json("result.json", {"outer_steps": preset.outer.steps, "seconds": 1.0})
    with pytest.raises(UsageError, match="no runs of the study; run: reptile-np reproduce same-k --out"):
        sources.table("same-k", tmp_path, NUMPY)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("3", "run: reptile-np reproduce figure3 --out"),
        ("curve", "reptile-np train --out makes one"),
        ("same-k", "run: reptile-np reproduce same-k --out"),
        ("same-k-omniglot", "run: reptile-np reproduce same-k-omniglot --out"),
    ],
)
def test_a_figure_that_lacks_its_runs_says_in_one_line_what_to_do(name, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for options in ([], ["--runs", str(tmp_path)]):
        assert main(["figure", name, "--out", str(tmp_path / "x"), *options]) == 2
        (error,) = capsys.readouterr().err.splitlines()
        assert says in error


def test_without_matplotlib_a_figure_is_refused_in_one_line_before_anything_is_trained(monkeypatch, capsys):
    original = builtins.__import__

    def no_matplotlib(name, *args, **kwargs):
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    for module in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    assert main(["figure", "1"]) == 2
    error = capsys.readouterr().err
    assert "run: pip install matplotlib" in error
    assert len(error.splitlines()) == 1


def test_a_place_that_cannot_be_written_is_said_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="choose another --out"):
        style.save(figure_2.table(), figure_2.draw, tmp_path / "file" / "x", figure_2.SIZE)


@pytest.mark.parametrize("place", [".", "..", "/", "folder"])
def test_a_folder_is_no_name_of_a_figure(tmp_path, monkeypatch, capsys, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    assert main(["figure", "2", "--out", place]) == 2
    says = f"--out {place}: is a folder; give the name of a file in it, without an ending"
    assert capsys.readouterr().err.splitlines() == [f"reptile-np: {says}"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("modes", [("transductive",), ("transductive", "non_transductive")])
def test_a_table_of_curves_has_a_row_for_each_step(modes):
    curves = {"run": {mode: [(0.2, 0.01), (0.9, 0.02)] for mode in modes}}
    assert len(inner_curve.table(curves).rows) == 2 * len(modes)
