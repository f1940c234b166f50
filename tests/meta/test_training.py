"""The outer loop is Algorithms 1 and 2, can be resumed bitwise after any step, and names a bad loss."""

import re
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.errors import UsageError
from reptile_np.meta.inner_loop import RunsInnerLoops, adapt
from reptile_np.meta.meta_gradients import gradient_sum, maml, reptile
from reptile_np.meta.optimizers import Adam, HeavyBall, Sgd, linear_annealing
from reptile_np.meta.training import begin, meta_train
from reptile_np.nn.models import sine_mlp
from tests.meta.runs import (
    ALPHA,
    INNERS,
    META_GRADIENTS,
    MODEL,
    OUTERS,
    assert_same_state,
    assert_same_step,
    episodes,
    phi_0,
    train,
    training,
)


def test_algorithm_1_as_the_paper_writes_it():
    """For iteration = 1, 2, …: W = SGD(L_τ, φ, k); φ ← φ + ε (W - φ)."""
    phi, epsilon = phi_0(), 0.3
    for step in train(Sgd(ALPHA), rate=lambda i: epsilon):
        w = phi
        for batch in episodes(step.done - 1, 0):
            w = w - ALPHA * MODEL.loss_and_grad(w, batch)[1]
        phi = phi + epsilon * (w - phi)
        np.testing.assert_allclose(step.phi, phi, rtol=1e-12)


@given(n=st.integers(1, 4))
def test_algorithm_2_starts_every_task_from_the_same_phi_and_takes_the_mean(n):
    (step,) = train(Sgd(ALPHA), steps=1, meta_batch=n)
    ends = [adapt(MODEL, Sgd(ALPHA), phi_0(), episodes(0, j)).phis[-1] for j in range(n)]
    np.testing.assert_allclose(step.phi, phi_0() + 0.5 * (np.mean(ends, axis=0) - phi_0()), rtol=1e-12)


@pytest.mark.parametrize("inner", INNERS, ids=str)
def test_the_inner_state_runs_on_over_tasks_and_outer_steps_while_phi_goes_back(inner):
    phi, state = phi_0(), inner.init(phi_0())
    for step in train(inner, meta_batch=2, steps=3):
        ends = []
        for j in range(2):
            t = adapt(MODEL, inner, phi, episodes(step.done - 1, j), state)
            state = t.state
            ends.append(t.phis[-1])
        phi = phi + 0.5 * ((ends[0] + ends[1]) / 2 - phi)
        np.testing.assert_allclose(step.phi, phi, rtol=1e-9)
        if isinstance(inner, Adam):
            assert step.inner_state.t == 6 * step.done


@pytest.mark.parametrize("outer", OUTERS, ids=str)
@pytest.mark.parametrize("meta_gradient", META_GRADIENTS)
def test_any_outer_optimiser_takes_the_mean_direction_at_the_rate_of_the_step(outer, meta_gradient):
    rate, direction = linear_annealing(0.5, 0.1, 4), META_GRADIENTS[meta_gradient]
    phi, state = phi_0(), outer.init(phi_0())
    for step in train(Sgd(ALPHA), outer, direction, rate=rate, meta_batch=2):
        i = step.done - 1
        mean = sum(direction(adapt(MODEL, Sgd(ALPHA), phi, episodes(i, j))) for j in range(2)) / 2
        phi, state = replace(outer, learning_rate=rate(i)).update(mean, state, phi)
        np.testing.assert_array_equal(step.phi, phi)
        assert_same_state(step.outer_state, state)


@pytest.mark.parametrize("outer", OUTERS, ids=str)
@pytest.mark.parametrize("inner", INNERS, ids=str)
@given(stop=st.integers(1, 4))
def test_a_run_that_stops_after_any_step_can_be_resumed_bitwise(inner, outer, stop):
    rate = linear_annealing(1.0, 0.0, 5)
    whole = train(inner, outer, steps=5, rate=rate, meta_batch=2)
    first = train(inner, outer, steps=stop, rate=rate, meta_batch=2)
    rest = train(inner, outer, steps=5, rate=rate, meta_batch=2, start=first[-1])
    assert len(first) + len(rest) == 5
    for step, expected in zip(first + rest, whole, strict=True):
        assert_same_step(step, expected)


def test_a_step_already_yielded_is_a_value_that_later_steps_leave_alone():
    steps = [(step, deepcopy(step)) for step in training(Adam(0.01, 0.9), Adam(1.0))]
    for step, as_yielded in steps:
        assert_same_step(step, as_yielded)
    assert [step.done for step, _ in steps] == [1, 2, 3, 4]


def test_the_tasks_are_asked_for_once_and_in_order():
    asked = []

    def watched(i, j):
        asked.append((i, j))
        return episodes(i, j)

    train(episodes=watched, steps=3, meta_batch=2)
    assert asked == [(i, j) for i in range(3) for j in range(2)]


def test_a_number_of_tasks_of_numpy_leaves_float32_parameters_float32():
    model = sine_mlp()
    phi = model.init(np.random.default_rng(0))
    x = np.linspace(-1, 1, 5, dtype=np.float32)[:, np.newaxis]

    def end(meta_batch):
        steps = meta_train(
            model,
            begin(phi, Sgd(0.01), Sgd(1.0)),
            lambda i, j: [(x, x)] * 2,
            meta_gradient=reptile,
            inner=Sgd(0.01),
            outer=lambda i: Sgd(1.0),
            outer_steps=1,
            meta_batch=meta_batch,
        )
        return next(steps).phi

    assert end(np.int64(2)).dtype == np.float32
    np.testing.assert_array_equal(end(np.int64(2)), end(2))


def test_the_losses_of_a_step_are_means_over_the_meta_batch_before_the_update():
    (step,) = train(Sgd(ALPHA), steps=1, meta_batch=3)
    losses = [adapt(MODEL, Sgd(ALPHA), phi_0(), episodes(0, j)).losses for j in range(3)]
    np.testing.assert_allclose(step.first_loss, np.mean([loss[0] for loss in losses]), rtol=1e-14)
    np.testing.assert_allclose(step.last_loss, np.mean([loss[-1] for loss in losses]), rtol=1e-14)


def test_a_run_begins_where_it_is_told_and_a_finished_run_has_no_more_steps():
    start = begin(phi_0(), INNERS[1], OUTERS[0])
    assert (start.done, start.first_loss) == (0, None)
    np.testing.assert_array_equal(start.phi, phi_0())
    finished = train(steps=2)[-1]
    assert train(steps=2, start=finished) == []


@pytest.mark.parametrize("meta_gradient", [reptile, maml(MODEL, ALPHA)], ids=["ends", "all"])
def test_nan_in_the_data_gives_one_line_that_names_the_place(meta_gradient):
    def poisoned(i, j):
        batches = episodes(i, j)
        if (i, j) == (2, 1):
            batches[1][0][0] = np.nan
        return batches

    line = r"^outer step 3, task 2, inner step 2: the loss is nan; look for NaN in the data, or lower"
    with pytest.raises(UsageError, match=line) as error:
        train(Sgd(ALPHA), meta_gradient=meta_gradient, episodes=poisoned, meta_batch=2)
    assert "\n" not in str(error.value)


def test_a_learning_rate_that_diverges_gives_the_same_line_and_no_warning():
    """The warnings of NumPy's overflows would be errors here."""
    with pytest.raises(UsageError, match=r"^outer step \d+, task 1, inner step \d+: the loss is (nan|inf);"):
        train(Sgd(1e6), steps=100)


@pytest.mark.parametrize("outer", OUTERS, ids=str)
@pytest.mark.parametrize("meta_gradient", META_GRADIENTS)
def test_what_is_kept_of_a_trajectory_changes_no_result(outer, meta_gradient):
    direction = META_GRADIENTS[meta_gradient]
    expected = train(Sgd(ALPHA), outer, direction, meta_batch=2)
    for keep in ("all", "hessians", *(["ends"] if meta_gradient in ("reptile", "fomaml") else [])):
        actual = train(Sgd(ALPHA), outer, direction, meta_batch=2, keep=keep)
        for step, same in zip(actual, expected, strict=True):
            assert_same_step(step, same)


def test_each_outer_step_asks_for_its_own_optimiser_once():
    asked = []

    def outer(i):
        asked.append(i)
        return Sgd(1.0)

    start = begin(phi_0(), Sgd(ALPHA), outer(-1))
    options = {"meta_gradient": reptile, "inner": Sgd(ALPHA), "outer": outer, "meta_batch": 2}
    list(meta_train(MODEL, start, episodes, outer_steps=3, **options))
    assert asked == [-1, 0, 1, 2]


def test_a_run_may_be_complex():
    (real,) = train(steps=1)
    (step,) = train(steps=1, start=begin(phi_0().astype(complex), INNERS[1], OUTERS[0]))
    assert step.phi.dtype == complex
    np.testing.assert_allclose(step.phi, real.phi, rtol=1e-12)


@pytest.mark.parametrize("meta_batch", [0, -1, 2.0, "2", None])
def test_a_meta_batch_without_tasks_is_refused(meta_batch):
    with pytest.raises(
        UsageError, match=f"^meta_train: meta_batch is {meta_batch!r}; give a whole number of at"
    ):
        train(meta_batch=meta_batch)


@pytest.mark.parametrize("outer_steps", ["3", 2.5, None, -1])
def test_a_number_of_outer_steps_that_is_no_number_is_refused(outer_steps):
    with pytest.raises(UsageError, match=f"^meta_train: outer_steps is {outer_steps!r}; give a whole number"):
        train(steps=outer_steps)


def test_an_outer_step_that_overflows_gives_one_line_and_no_warning():
    with pytest.raises(UsageError, match=r"^outer step 1: the parameters are not finite; lower the outer"):
        train(Sgd(1e10), rate=lambda i: 1e300, steps=1)


def test_complex_parameters_that_are_not_finite_are_refused_too():
    start = begin(phi_0().astype(complex), INNERS[1], OUTERS[0])
    with pytest.raises(UsageError, match=r"^outer step 1: the parameters are not finite"):
        train(meta_gradient=lambda t: np.nan * t.phis[0], start=start)


def test_a_phi_that_holds_no_fractions_is_refused():
    start = begin(np.ones(phi_0().shape, int), INNERS[1], OUTERS[0])
    with pytest.raises(
        UsageError, match=r"^meta_train: phi is int64, which holds no fractions; give floats$"
    ):
        train(start=start)


@pytest.mark.parametrize("direction", [np.array(1.0), np.zeros(4), np.zeros((13, 1)), 0.0])
def test_a_direction_of_another_shape_is_refused(direction):
    said = re.escape(f"meta_gradient gave float64 {np.shape(direction)}; φ is float64 {phi_0().shape}")
    with pytest.raises(UsageError, match=f"^{said}$"):
        train(meta_gradient=lambda t: direction)


@pytest.mark.parametrize("dtype", [complex, object])
def test_a_direction_of_a_dtype_that_phi_cannot_hold_is_refused(dtype):
    """As of weights or rates that are complex, or fractions of Python, beside a φ of floats."""
    with pytest.raises(UsageError, match=r"^meta_gradient gave (complex128|object) .*; φ is float64 "):
        train(meta_gradient=lambda t: reptile(t).astype(dtype))


def test_an_outer_optimiser_that_changes_the_shape_of_phi_is_refused():
    """If the step is the last one, nothing after it would notice."""

    class Column(Sgd):
        def update(self, grad, state, phi):
            return (phi - 0.1 * grad)[:, np.newaxis], state

    with pytest.raises(UsageError, match=r"^Column\.update gave φ \(13, 1\); it was \(13,\)$"):
        train(outer=Column(1.0), steps=1)


def test_an_optimiser_in_place_of_a_schedule_of_optimisers_is_named():
    start = begin(np.zeros(3), Sgd(1.0), Sgd(1.0))
    options = {"meta_gradient": reptile, "inner": Sgd(1.0), "outer": Sgd(1.0), "outer_steps": 1}
    with pytest.raises(UsageError, match=r"^meta_train: outer is Sgd.*; give a function, such as lambda i:"):
        next(meta_train(None, start, None, **options))


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"meta_gradient": "reptile"}, r"^meta_gradient is 'reptile'; give a function$"),
        (
            {"meta_gradient": maml},
            r"^meta_train: give what maml or gradient_sum returns, such as maml\(model, 0\.1",
        ),
        ({"meta_gradient": gradient_sum}, r"^meta_train: give what maml or gradient_sum returns"),
        ({"episodes": [[None]]}, r"^episodes is a list; give a function$"),
        ({"start": np.zeros(2)}, r"^meta_train: start is a ndarray; give begin\(phi, inner, outer\)$"),
        ({"outer": lambda i: 0.1}, r"^meta_train: outer\(0\) is 0\.1; give one, such as Sgd\(0\.1\)$"),
    ],
)
def test_arguments_of_another_kind_are_named(given, line):
    options = {"episodes": episodes, "meta_gradient": reptile, "inner": Sgd(1.0), "outer": lambda i: Sgd(1.0)}
    options |= {"start": begin(phi_0(), Sgd(1.0), Sgd(1.0)), "outer_steps": 1}
    with pytest.raises(UsageError, match=line):
        next(meta_train(MODEL, **(options | given)))


def test_a_run_begins_with_an_array_and_two_optimisers():
    with pytest.raises(UsageError, match=r"^begin: phi is a list; give an array$"):
        begin([1.0, 2.0], Adam(0.1), HeavyBall(0.1))
    with pytest.raises(UsageError, match=r"^begin: the inner optimizer is None; give one, such as Sgd"):
        begin(np.ones(2), None, Sgd(0.1))
    with pytest.raises(UsageError, match=r"^begin: the outer optimizer is 0\.1; give one, such as Sgd"):
        begin(np.ones(2), Sgd(0.1), 0.1)


def test_an_outer_step_is_the_model_s_own_if_it_has_one():
    class Own(RunsInnerLoops):
        def loss_and_grad(self, phi, batch):
            return 0.0, 0 * phi

        def update(self, optimizer, grad, state, phi):
            return phi + 5, state

    start = begin(np.zeros(2), Sgd(1.0), Sgd(1.0))
    (step,) = training(Sgd(1.0), model=Own(), start=start, steps=1, episodes=lambda i, j: [None])
    assert step.phi.tolist() == [5, 5]
