"""The numbers of the figures are those of the paper's formulas and of the runs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.errors import UsageError
from reptile_np.experiments.comparison import Row
from reptile_np.experiments.figures import figure_1, figure_2, figure_3, same_k
from reptile_np.experiments.figures.style import Table, to_csv
from reptile_np.nn import models
from reptile_np.tasks.sine import INTERVAL
from tests.experiments.figure_tables import from_csv, value

numbers = st.floats(-1e6, 1e6).map(lambda x: float(f"{x:.6g}"))
words = st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1).filter(
    lambda text: value(text) == text and text == text.strip()
)


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


def test_a_curve_needs_a_run_and_a_window_of_at_least_one_evaluation():
    with pytest.raises(UsageError, match=r"^smooth: there are no runs; give at least one$"):
        figure_3.smooth([])
    for window in (-1, 0, 2.5):
        with pytest.raises(
            UsageError, match=f"^smooth: window is {window}; give a whole number of at least 1$"
        ):
            figure_3.smooth([[(1, 0.5)]], window)


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


@pytest.mark.parametrize("kind", [float, np.float16, np.float32, np.float64])
def test_floats_of_any_kind_have_six_significant_digits(kind):
    assert to_csv(Table(("a",), ((kind(2 / 3),),))) == f"a\n{kind(2 / 3):.6g}\n"
