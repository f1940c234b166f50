"""The inner and outer steps of an assembled run: its optimisers, rates, algorithm and optimiser states."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from reptile_np.experiments import runs
from reptile_np.experiments.experiment import make_experiment
from reptile_np.experiments.presets import get
from reptile_np.meta import evaluation, meta_gradients
from reptile_np.meta.inner_loop import adapt
from reptile_np.meta.optimizers import Adam, Clipped, HeavyBall, Sgd
from reptile_np.nn.losses import SoftmaxCrossEntropy
from reptile_np.nn.ops import NUMPY
from tests.experiments.small import experiment
from tests.experiments.wiring import OMNIGLOT, SINE, pixels
from tests.oracles import gamma


@pytest.mark.parametrize("name", OMNIGLOT[:1] + SINE + ["glyphs-5way", "figure3-g4"])
def test_the_inner_optimiser_is_the_preset_s(name, request):
    preset = get(name)
    data = request.getfixturevalue("omniglot_data") if name in OMNIGLOT else None
    rate = preset.inner.learning_rate
    expected = {
        "adam": Adam(rate, beta1=0.0, beta2=0.999, epsilon=1e-8),
        "sgd": Sgd(rate),
    }[preset.inner.optimizer]
    assert make_experiment(preset, 0, NUMPY, data).inner == expected


@pytest.mark.parametrize(("name", "kind"), [("sgd", Sgd), ("momentum", HeavyBall), ("adam", Adam)])
def test_any_optimiser_serves_outside(name, kind):
    assert type(experiment("sine-reptile", f"outer.optimizer={name}").outer(0)) is kind


@pytest.mark.parametrize("last", [0.0, 0.25])
def test_the_outer_rate_at_step_i_of_n_is_first_times_1_minus_i_over_n_plus_last_times_i_over_n(last):
    made = experiment("sine-reptile", "outer.rate=0.75", f"outer.final_rate={last}", "outer.steps=8")
    for i in range(8):
        exact = Fraction(3, 4) * (1 - Fraction(i, 8)) + Fraction(last) * Fraction(i, 8)
        assert made.outer(i).learning_rate == float(exact)


def test_adam_outside_has_the_settings_beta1_and_the_rate_of_each_step():
    settings = ["outer.rate=0.5", "outer.final_rate=0.5", "outer.optimizer=adam"]
    assert experiment("sine-reptile", *settings).outer(3) == Adam(0.5, beta1=0.0, beta2=0.999, epsilon=1e-8)
    made = experiment("sine-reptile", *settings, "outer.beta1=0.75", "outer.final_rate=0", "outer.steps=4")
    assert [made.outer(i) for i in range(4)] == [Adam(r, beta1=0.75) for r in (0.5, 0.375, 0.25, 0.125)]


def test_adam_with_beta1_remembers_the_directions_of_earlier_meta_batches():
    """The outer steps of a run, made again entry by entry from the trajectories alone."""
    settings = ["outer.optimizer=adam", "outer.beta1=0.9", "outer.rate=0.01", "outer.final_rate=0.01"]
    made = experiment("sine-maml", *settings, "outer.meta_batch=1")
    step, m, v = made.start(), 0, 0
    for i, after in enumerate(made.outer_steps(step)):
        batches = made.episodes.training(i, 0)
        g = made.meta_gradient(adapt(made.model, made.inner, step.phi, batches, keep="hessians"))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        m_hat, v_hat = m / (1 - 0.9 ** (i + 1)), v / (1 - 0.999 ** (i + 1))
        expected = step.phi - 0.01 * m_hat / (np.sqrt(v_hat) + 1e-8 / np.sqrt(1 - 0.999 ** (i + 1)))
        np.testing.assert_allclose(after.phi, expected, rtol=0, atol=1e-6)
        step = after
    assert step.done > 2


def test_a_bound_is_put_before_the_outer_optimiser_of_every_step_with_that_step_s_rate():
    made = experiment("sine-maml", "outer.clip=0.125", "outer.rate=0.5", "outer.steps=4")
    assert [made.outer(i) for i in range(4)] == [Clipped(Adam(r), 0.125) for r in (0.5, 0.375, 0.25, 0.125)]


def test_the_fixed_parameters_have_the_inner_rate_0_and_all_others_the_preset_s():
    made = experiment("sine-maml", "inner.fixed=*/bias", "inner.learning_rate=0.25")
    rates = made.model.layout.views(made.inner.learning_rate)
    assert {name: set(rate.ravel().tolist()) for name, rate in rates.items()} == {
        f"dense{i}/{part}": {rate} for i in (1, 2, 3) for part, rate in (("kernel", 0.25), ("bias", 0.0))
    }


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
def test_a_run_steps_with_that_rate_and_the_mean_over_the_meta_batch(optimizer):
    """Every outer step of the run, made again from the trajectories alone."""
    settings = [f"outer.optimizer={optimizer}", "outer.rate=0.5", "outer.final_rate=0.25"]
    made = experiment("glyphs-5way", *settings)
    assert made.preset.outer.meta_batch == 2
    step, velocity = made.start(), 0
    for i, after in enumerate(made.outer_steps(step)):
        state, total = step.inner_state, 0 * step.phi
        for j in range(2):
            t = adapt(made.model, Adam(1e-3, beta1=0.0), step.phi, made.episodes.training(i, j), state)
            state, total = t.state, total + (t.phis[0] - t.phis[-1])
        velocity = (0.9 * velocity if optimizer == "momentum" else 0) + total / 2
        rate = 0.5 * (1 - i / 4) + 0.25 * (i / 4)
        np.testing.assert_array_equal(after.phi, step.phi - rate * velocity)
        np.testing.assert_array_equal(after.inner_state.v, state.v)
        step = after
    assert step.done == 4


# Which algorithm


def trajectory(made, keep="hessians"):
    start, batches = made.start(), made.episodes.training(0, 0)
    return adapt(made.model, made.inner, start.phi, batches, start.inner_state, keep=keep)


def test_maml_differentiates_through_steps_of_the_inner_rate():
    made = experiment("sine-maml", "inner.learning_rate=0.03", "outer.rate=0.7")
    t = trajectory(made)
    alpha = 0.03
    u = t.grads[-1]
    for phi, batch in list(zip(t.phis, t.batches, strict=False))[-2::-1]:
        u = u - alpha * made.model.hvp(phi, batch, u)
    np.testing.assert_array_equal(made.meta_gradient(t), u)
    other = meta_gradients.maml(made.model, 0.7)(replace(t, optimizer=None))
    assert np.abs(made.meta_gradient(t) - other).max() > 1e-2 * np.abs(u).max()


def test_maml_differentiates_through_steps_of_adam_from_the_state_of_the_task_before():
    made = experiment("sine-maml", "inner.optimizer=adam", "inner.learning_rate=0.003")
    after = next(made.outer_steps(made.start()))
    assert after.inner_state.t == 5
    t = adapt(made.model, made.inner, after.phi, made.episodes.training(1, 0), after.inner_state)
    direction = made.meta_gradient(t)
    np.testing.assert_array_equal(direction, meta_gradients.maml(made.model, Adam(0.003))(t))
    size = np.abs(direction).max()
    assert np.abs(direction - t.grads[-1]).max() > 1e-2 * size
    other = meta_gradients.maml(made.model, Adam(0.006))(replace(t, optimizer=None))
    assert np.abs(direction - other).max() > 1e-2 * size


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sine-reptile", lambda t: t.phis[0] - t.phis[-1]),
        ("sine-fomaml", lambda t: t.phis[-2] - t.phis[-1]),
        ("sine-joint", lambda t: t.grads[0]),
        ("glyphs-5way", lambda t: t.phis[0] - t.phis[-1]),
    ],
)
def test_the_direction_is_the_preset_s_algorithm_s(name, expected):
    made = experiment(name)
    t = trajectory(made)
    np.testing.assert_array_equal(made.meta_gradient(t), expected(t))
    assert len(t.phis) == made.preset.inner.steps + 1


@pytest.mark.parametrize("name", [name for name in OMNIGLOT if name.startswith("figure3-")])
def test_a_curve_of_figure_3_steps_by_the_combination_of_gradients_that_its_name_says(omniglot_data, name):
    """g_k: the last gradient; sum_k: all of them; mean_k: their mean.  The gradients are summed losses'."""
    made = make_experiment(get(name), 0, NUMPY, omniglot_data)
    k = int(name[-1])
    t = trajectory(made, keep="all")
    step = next(made.outer_steps(made.start()))
    weights = {"g": [0] * (k - 1) + [1], "sum": [1] * k, "mean": [1 / k] * k}[name[len("figure3-") : -1]]
    terms = [0.25 * 3e-3 * w * g.astype(np.float64) for w, g in zip(weights, t.grads, strict=True)]
    # φ is rounded by half a spacing at each inner step, in their sum and at the outer step; else terms are.
    of_phi = (0.25 * (k + 1) + 1) * np.spacing(max(np.abs(phi).max() for phi in (*t.phis, step.phi))) / 2
    bound = of_phi + gamma(k + 3, np.float32) * sum(map(np.abs, terms))
    moved = made.start().phi.astype(np.float64) - step.phi
    assert (np.abs(moved - sum(terms)) <= bound).all()
    assert sum(len(y) for _, y in t.batches) == len(pixels(np.concatenate([x for x, _ in t.batches])))
    x, y = t.batches[0]
    assert t.losses[0] == SoftmaxCrossEntropy("sum").per_example(made.model.predict(t.phis[0], x), y).sum()


# Whose optimiser state, which numbers


def test_the_trained_and_the_untrained_point_are_each_evaluated_with_their_own_optimiser_state(monkeypatch):
    made = experiment("glyphs-5way")
    last = list(made.outer_steps(made.start()))[-1]
    seen = []
    original = evaluation.adapt

    def spy(model, optimizer, phi, batches, state, **kwargs):
        seen.append((optimizer, phi.tobytes(), state.t, state.v.tobytes()))
        return original(model, optimizer, phi, batches, state, **kwargs)

    monkeypatch.setattr(evaluation, "adapt", spy)
    runs.train(made.preset, 0, NUMPY, quiet=True)
    expected = [
        (made.inner, step.phi.tobytes(), step.inner_state.t, step.inner_state.v.tobytes())
        for step in (made.start(), last)
        for _ in range(3)
    ]
    assert seen == expected
    assert (made.start().inner_state.t, last.inner_state.t) == (0, 4 * 2 * 5)


def test_a_regression_is_evaluated_with_the_state_that_it_is_given():
    made = experiment("sine-reptile", "inner.optimizer=adam")
    last = list(made.outer_steps(made.start()))[-1]
    spec = made.preset.evaluation
    after = []
    for i in range(spec.tasks):
        episode = made.episodes.evaluation(spec, "test", i)
        tuned = adapt(made.model, made.inner, last.phi, episode.batches, last.inner_state).phis[-1]
        after.append(np.mean((made.model.predict(tuned, episode.query[0]) - episode.query[1]) ** 2))
    assert made.evaluate(last).to_json()["error"] == float(np.mean(np.array(after, float)))
