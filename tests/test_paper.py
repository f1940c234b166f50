"""The paper, statement by statement, in its order.

Exact statements are drawn by Hypothesis and compared as fractions: there is no tolerance and no float.
The rows of ``reptile-np verify`` with fixed examples are held here too.  The map from equation to
function to test is in ``tests/README.md``.
"""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reptile_np.checks.strategies import rational_vectors, small_fractions, task_families
from reptile_np.meta.optimizers import Sgd
from reptile_np.nn.layers import Dense
from reptile_np.nn.losses import SquaredError
from reptile_np.nn.models import Model, mini_imagenet_cnn, omniglot_cnn, sine_mlp
from reptile_np.tasks import sine
from reptile_np.theory import expansions
from reptile_np.theory.claims import algorithm, breakdown, expansion, manifold, network, steps
from reptile_np.theory.claims.algorithm import (
    average_update_gap,
    curvature_covariance,
    moving_average,
    task_loss,
)
from reptile_np.theory.claims.network import complex_step_error
from reptile_np.theory.expansions import METHODS, distinct, independent, stated, stated_sum, weighted_gradient
from reptile_np.theory.manifolds import (
    Affine,
    alternate,
    cycle_limit,
    distance_gradient,
    half_squared_distance,
    move,
    nearest_point,
)
from reptile_np.theory.rational import exact_gradient, rationals
from tests.theory.exact import combination
from tests.theory.measured import rows

samplers = pytest.mark.parametrize("sampler", [distinct, independent])
nonzero = small_fractions().filter(bool)


def assert_rows_hold(function, source):
    """All rows of that source hold, and there is one."""
    found = [row for row in rows(function) if source in row.source]
    assert found
    assert [row for row in found if not row.holds] == []


# Section 2: the algorithms


def test_algorithm_1_moves_towards_the_adapted_parameters():
    assert_rows_hold(algorithm.outer_loop, "Algorithm 1")


def test_algorithm_2_averages_the_adapted_parameters_of_n_tasks():
    assert_rows_hold(algorithm.outer_loop, "Algorithm 2")


def test_erratum_2_the_batched_step_is_divided_by_the_number_of_tasks_not_of_steps():
    assert_rows_hold(algorithm.outer_loop, "erratum 2")


@given(task_families(tasks=1, batches=3), nonzero, small_fractions())
def test_reptile_as_a_gradient_into_sgd_is_algorithm_1(family, alpha, epsilon):
    t = expansions.run(family.model, family.phi, family.tasks[0], alpha)
    moved, _ = Sgd(epsilon).update(expansions.reptile(t), (), family.phi)
    assert (moved == family.phi + epsilon * (t.phis[-1] - family.phi)).all()


@given(task_families())
def test_eq_1_the_expected_gradient_is_the_gradient_of_the_expected_loss(family):
    losses = [task_loss(task) for task in family.tasks]

    def expected_loss(phi):
        return sum(family.model.loss_and_grad(phi, loss)[0] for loss in losses) / len(losses)

    gradient = exact_gradient(expected_loss, family.phi, family.model.degree)
    assert (sum(map(family.grad, losses)) / len(losses) == gradient).all()


@given(task_families())
def test_eq_2_one_step_on_average_is_the_step_on_the_average(family):
    assert (average_update_gap(family, 1) == 0).all()


@given(task_families(batches=1), st.integers(2, 3))
def test_eq_2_fails_for_more_steps_by_the_covariance_of_curvature_and_gradient(family, k):
    zeroth, first, second, *_ = average_update_gap(family, k)
    assert (zeroth == 0).all()
    assert (first == 0).all()
    assert (second == Fraction(k * (k - 1), 2) * curvature_covariance(family)).all()


def test_section_2_for_more_steps_reptile_does_not_end_at_the_minimum_of_the_expected_loss():
    assert_rows_hold(algorithm.where_reptile_ends, "section 2")


# Section 3: sine waves


def test_section_3_the_expected_wave_is_zero_everywhere():
    assert_rows_hold(manifold.sine_waves, "section 3")


@given(st.floats(*sine.AMPLITUDES), st.floats(0, 2 * np.pi))
def test_section_3_the_wave_of_the_opposite_phase_cancels_a_wave(amplitude, phase):
    assert np.subtract(*sine.PHASES) == -2 * np.pi  # so that every wave has its opposite
    waves = sine.Wave(amplitude, phase)(sine.GRID) + sine.Wave(amplitude, phase + np.pi)(sine.GRID)
    assert np.abs(waves).max() <= 1e-14 * amplitude  # arguments up to 15 are rounded by 2e-15


# Section 4.1: leading-order expansions.  One task, L_0 then L_1


@given(task_families(tasks=1, batches=2), small_fractions())
def test_eqs_4_to_6_two_steps_of_sgd(family, alpha):
    (zero, one), phi = family.tasks[0], family.phi
    t = expansions.run(family.model, phi, [zero, one], alpha)
    phi_1 = phi - alpha * family.grad(zero)
    phi_2 = phi_1 - alpha * replace(family, phi=phi_1).grad(one)
    assert (np.stack(t.phis) == np.stack([phi, phi_1, phi_2])).all()


@given(task_families(tasks=1, batches=2))
def test_eqs_7_and_8_the_second_gradient_at_the_adapted_point(family):
    g0, _, h1g0, _ = two(family)
    zeroth, first, second = one_order(family, weighted_gradient([0, 1]))
    assert (zeroth == family.grad(family.tasks[0][1])).all()
    assert (first == -h1g0).all()
    assert (second == family.model.third(family.phi, family.tasks[0][1], g0, g0) / 2).all()


@given(task_families(tasks=1, batches=2))
def test_eqs_9_and_10_the_reptile_gradient(family):
    g0, g1, h1g0, _ = two(family)
    zeroth, first, _ = one_order(family, METHODS["Reptile"])
    assert (zeroth == g0 + g1).all()
    assert (first == -h1g0).all()


@given(st.integers(1, 3).flatmap(lambda k: task_families(tasks=1, batches=k)), small_fractions())
def test_eq_11_maml_is_the_gradient_of_the_adapted_loss(family, alpha):
    model, batches = family.model, family.tasks[0]
    gradient = METHODS["MAML"](model, alpha)(expansions.run(model, family.phi, batches, alpha))
    degree = model.degree * (model.degree - 1) ** (len(batches) - 1)
    adapted_loss = exact_gradient(
        lambda phi: expansions.run(model, phi, batches, alpha).losses[-1], family.phi, degree
    )
    assert (gradient == adapted_loss).all()


NETWORKS = {
    "sine_mlp": sine_mlp(),
    "linear": Model((Dense(1),), (3,), SquaredError("sum")),
    "omniglot_cnn": omniglot_cnn(3, filters=4),
    "mini_imagenet_cnn": mini_imagenet_cnn(3, filters=3),
    "mini_imagenet_cnn v1": mini_imagenet_cnn(3, filters=3, order="conv-pool-norm"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_eq_11_maml_on_a_network_is_the_complex_step_through_the_whole_inner_loop(name):
    model, rng = NETWORKS[name], np.random.default_rng(0)
    phi = model.init(rng, np.float64)
    inputs = rng.standard_normal((3, 4, *model.input_shape))
    if isinstance(model.loss, SquaredError):
        targets = rng.standard_normal((3, 4, 1))
    else:
        targets = rng.integers(3, size=(3, 4))
    batches = list(zip(inputs, targets, strict=True))
    assert complex_step_error(model, phi, batches, alpha=1e-3) <= 1e-12


@given(task_families(tasks=1, batches=2))
def test_eqs_12_and_13_the_maml_gradient(family):
    _, g1, h1g0, h0g1 = two(family)
    zeroth, first, _ = one_order(family, METHODS["MAML"])
    assert (zeroth == g1).all()
    assert (first == -h1g0 - h0g1).all()


@given(task_families(tasks=1, batches=2))
def test_eq_14_the_fomaml_gradient(family):
    _, g1, h1g0, _ = two(family)
    zeroth, first, _ = one_order(family, METHODS["FOMAML"])
    assert (zeroth == g1).all()
    assert (first == -h1g0).all()


def test_eqs_4_to_14_the_measured_coefficients_are_those_stated():
    assert_rows_hold(steps.two_steps, "eq")


@given(task_families(tasks=1, batches=3))
def test_the_gradient_of_any_step_for_one_order_of_three_minibatches(family):
    (batches,) = family.tasks
    in_order = replace(family, sampler=lambda task, k: [tuple(task)])
    methods = {str(i): weighted_gradient([int(i == j) for j in range(3)]) for i in range(3)}
    zeroth, first = in_order.expansion(methods, 3, orders=2)
    for i, batch in enumerate(batches):
        earlier = sum(map(family.grad, batches[:i]), 0 * family.phi)
        assert (zeroth[i] == family.grad(batch)).all()
        assert (first[i] == -family.hvp(batch, earlier)).all()


def test_mamls_gradient_for_one_order_of_three_minibatches():
    assert_rows_hold(steps.three_steps, "any k")


# Section 4.1: expectations


@samplers
@given(st.data())
def test_avg_grad_inner_is_half_the_gradient_of_the_expected_inner_product(sampler, data):
    family = data.draw(task_families(sampler=sampler))

    def product(phi):
        here = replace(family, phi=phi)
        return here.mean(lambda one, two: here.grad(one) @ here.grad(two), 2)

    inner = family.avg_grad_inner()
    assert (inner == exact_gradient(product, family.phi, degree=4) / 2).all()
    assert (inner == family.mean(lambda one, two: family.hvp(two, family.grad(one)), 2)).all()


def test_erratum_1_plus_avg_grad_inner_increases_the_inner_product():
    assert_rows_hold(expansion.inner_products, "erratum 1")


@samplers
@given(st.data())
def test_eq_15_expected_reptile_gradient(sampler, data):
    family = data.draw(task_families(sampler=sampler))
    zeroth, first, _ = one_order(family, METHODS["Reptile"])
    assert (zeroth == 2 * family.avg_grad()).all()
    assert (first == -family.avg_grad_inner()).all()


@samplers
@given(st.data())
def test_eq_16_expected_maml_gradient(sampler, data):
    family = data.draw(task_families(sampler=sampler))
    zeroth, first, _ = one_order(family, METHODS["MAML"])
    assert (zeroth == family.avg_grad()).all()
    assert (first == -2 * family.avg_grad_inner()).all()


@samplers
@given(st.data())
def test_eq_17_expected_fomaml_gradient(sampler, data):
    family = data.draw(task_families(sampler=sampler))
    zeroth, first, _ = one_order(family, METHODS["FOMAML"])
    assert (zeroth == family.avg_grad()).all()
    assert (first == -family.avg_grad_inner()).all()


def test_eqs_15_to_17_for_one_to_five_steps():
    assert_rows_hold(expansion.expected_gradients, "any k")
    for equation in ("eq. (15)", "eq. (16)", "eq. (17)"):
        assert_rows_hold(expansion.expected_gradients, equation)


@samplers
@pytest.mark.parametrize("k", [1, 2, 3])
@given(st.data())
def test_eqs_15_to_17_for_one_to_three_steps_and_one_order_beyond(sampler, k, data):
    family = data.draw(
        task_families(sampler=sampler, variables=1, tasks=1, batches=3 if sampler is distinct else 2)
    )
    expansion = family.expansion(METHODS, k)
    for i, method in enumerate(METHODS):
        assert (expansion[:, i] == combination(family, stated(method, k))).all()


@given(task_families(tasks=1), st.lists(small_fractions(), min_size=1, max_size=3))
def test_section_5_2_any_weighted_sum_of_inner_gradients(family, w):
    expansion = family.expansion({"w": weighted_gradient(w)}, len(w))
    assert (expansion[:, 0] == combination(family, stated_sum(w))).all()


def test_section_5_2_fixed_weights_of_both_signs():
    assert_rows_hold(expansion.general_weights, "section 5.2")


def test_erratum_4_two_step_reptile_and_fomaml_differ_in_the_ratio_of_the_two_terms():
    assert_rows_hold(expansion.general_weights, "erratum 4")


@given(task_families(), nonzero)
def test_reading_notes_for_one_step_all_methods_coincide(family, alpha):
    directions = family.expected({**METHODS, "w": weighted_gradient([1])}, 1, alpha)
    assert (directions == family.avg_grad()).all()


def test_beyond_the_paper_the_coefficients_of_alpha_squared():
    assert_rows_hold(expansion.beyond, "beyond the paper")


def test_beyond_the_paper_at_alpha_squared_only_maml_stays_a_gradient_except_on_quadratic_losses():
    assert_rows_hold(expansion.potentials, "beyond the paper")


# Section 4.1 on real networks


def test_eqs_15_to_17_on_networks_leave_a_remainder_of_slope_2():
    assert_rows_hold(network.verify, "O(α²)")


def test_eqs_15_to_17_on_networks_have_the_stated_coefficients_and_span():
    assert_rows_hold(network.verify, "section 4.1")


# Section 4.1: where it ends


def test_cycling_over_minibatches_changes_the_coefficients():
    assert_rows_hold(breakdown.cycling, "breakdown")


def test_unequal_roles_break_the_exchange():
    assert_rows_hold(breakdown.fixed_roles, "breakdown")


def test_overlap_alone_does_not_break_the_exchange_but_batch_norm_does():
    assert_rows_hold(breakdown.overlapping, "beyond the paper")
    assert_rows_hold(breakdown.overlapping, "breakdown: batch norm")


def test_adam_inside_leaves_the_span_of_the_two_terms():
    assert_rows_hold(breakdown.adam_inside, "breakdown")


def test_batch_norm_makes_the_loss_of_a_batch_depend_on_its_composition():
    assert_rows_hold(breakdown.batch_norm, "breakdown")
    assert_rows_hold(breakdown.batch_norm, "section 4.1")


def test_a_relu_kink_ends_the_expansion():
    assert_rows_hold(breakdown.kinks, "breakdown")


# Section 4.2: near all solution manifolds


def planes(n, m=1):
    """Affine manifolds of codimension m in n dimensions."""
    full_rank = st.lists(rational_vectors(n), min_size=m, max_size=m).map(np.stack)
    full_rank = full_rank.filter(
        lambda a: (m == 1 and a.any()) or np.linalg.matrix_rank(a.astype(float)) == m
    )
    return st.builds(Affine, full_rank, rational_vectors(m))


@given(st.integers(1, 2).flatmap(lambda m: planes(3, m)), rational_vectors(3))
def test_eqs_18_to_20_the_gradient_of_the_distance_is_the_way_to_the_projection(plane, phi):
    gradient = exact_gradient(lambda p: manifold.half_squared_distance(plane, p), phi, degree=2)
    assert (distance_gradient(plane, phi) == gradient).all()
    assert (plane.a @ plane.project(phi) == plane.b).all()


def test_eqs_18_to_20_hold_on_a_curved_manifold_by_the_envelope_theorem():
    assert_rows_hold(manifold.projection_gradient, "envelope")
    assert_rows_hold(manifold.projection_gradient, "eqs (18)-(20)")


@given(planes(3), rational_vectors(3), small_fractions())
def test_eqs_21_to_23_the_update_is_an_interpolation(plane, phi, epsilon):
    moved, _ = Sgd(epsilon).update(distance_gradient(plane, phi), (), phi)
    assert (moved == move(plane, phi, epsilon)).all()


@given(planes(3), rational_vectors(3), small_fractions())
def test_erratum_7_the_move_of_eq_22_as_printed_increases_the_distance(plane, phi, epsilon):
    """By the factor 1 + ε; equation (23) multiplies it by 1 - ε."""
    printed = phi - epsilon * (plane.project(phi) - phi)
    before = half_squared_distance(plane, phi)
    assert half_squared_distance(plane, printed) == (1 + epsilon) ** 2 * before
    assert half_squared_distance(plane, move(plane, phi, epsilon)) == (1 - epsilon) ** 2 * before


@given(rational_vectors(2), st.lists(rational_vectors(2), min_size=1, max_size=4), small_fractions())
def test_eq_23_iterated_is_an_exponential_moving_average(phi, solutions, epsilon):
    average = phi
    for w in solutions:
        average = (1 - epsilon) * average + epsilon * w
    assert (average == moving_average(phi, solutions, epsilon)).all()


def test_eq_23_run_by_the_training_loop_is_a_moving_average():
    assert_rows_hold(algorithm.outer_loop, "moving average")


@given(*[rational_vectors(2)] * 4, st.fractions(Fraction(1, 9), 1))
def test_figure_2_alternating_moves_converge_to_the_common_point(one, other, common, start, epsilon):
    assume(one[0] * other[1] != one[1] * other[0])  # parallel lines have no single common point
    lines = [Affine(a[None], rationals([a @ common])) for a in (one, other)]
    assert (nearest_point(lines) == common).all()
    assert (cycle_limit(lines, epsilon) == common).all()
    assert (alternate(lines, common, epsilon, sweeps=2) == common).all()
    before, after = start - common, alternate(lines, start, epsilon, sweeps=1) - common
    assert after @ after < before @ before or not before.any()  # a linear map of `before`: it contracts


def test_figure_2_in_closed_form():
    assert_rows_hold(manifold.figure_2, "figure 2")


@given(rational_vectors(3))
def test_figure_2_the_expected_loss_has_a_line_of_minimisers_and_the_expected_distance_one(phi):
    assert_rows_hold(manifold.two_objectives, "figure 2, caption")
    tasks = [manifold.skew_task(c) for c in (1, -1)]
    losses = [loss(phi) for loss, _ in tasks]
    distances = [half_squared_distance(solutions, phi) for _, solutions in tasks]
    assert [loss == 0 for loss in losses] == [distance == 0 for distance in distances]
    assert sum(losses) / 2 >= Fraction(1, 2)
    assert sum(distances) / 2 > Fraction(1, 2) or not phi.any()


def test_section_4_2_without_a_common_point_epsilon_must_be_annealed():
    assert_rows_hold(manifold.without_common_point, "eq. (18)")
    assert_rows_hold(manifold.without_common_point, "beyond")


def test_section_4_2_gradient_descent_is_a_partial_projection():
    assert_rows_hold(manifold.partial_minimisation, "section 4.2, end")


# Section 5: the networks


def test_erratum_3_the_released_network_is_not_finns():
    assert_rows_hold(breakdown.architectures, "erratum 3")


def test_erratum_5_pooling_before_normalising_is_another_network():
    assert_rows_hold(breakdown.architectures, "erratum 5")


def two(family):
    """L_0', L_1', L_1'' L_0', L_0'' L_1' at the initial point."""
    zero, one = family.tasks[0]
    g0, g1 = family.grad(zero), family.grad(one)
    return g0, g1, family.hvp(one, g0), family.hvp(zero, g1)


def one_order(family, method):
    """The coefficients of α⁰, α¹, α² after two steps; for a single pair, in the order given."""
    if len(family.tasks[0]) == 2 and family.sampler is distinct:
        family = replace(family, sampler=lambda task, k: [tuple(task)])
    return family.expansion({"it": method}, 2)[:, 0]
