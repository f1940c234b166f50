"""Which meta-gradient is it?  Each method is recognised, and what is none of them is told so."""

import numpy as np
import pytest

from reptile_np.checks import meta_gradient_expansion
from reptile_np.errors import UsageError
from reptile_np.meta.inner_loop import adapt
from reptile_np.meta.meta_gradients import fomaml, gradient_sum, maml, reptile
from reptile_np.meta.optimizers import Adam, Sgd
from reptile_np.theory.expansions import independent
from reptile_np.theory.networks import small_images
from tests.checks.expansions import (
    FAMILY,
    changed,
    exact_maml,
    expansion_of,
    hessians_at_the_start,
    suspicion,
)


@pytest.mark.parametrize("k", [2, 3])
def test_each_method_is_recognised_by_its_coefficients(k):
    found = expansion_of(exact_maml, k=k, expect="MAML")
    assert found[:2] == pytest.approx((1, -2 * (k - 1)), rel=1e-5)
    assert max(found.angle_0, found.angle_1) <= 1e-5
    assert found.exact
    for name, direction in (
        ("FOMAML", lambda alpha: lambda t: fomaml(t) / alpha),
        ("Reptile", lambda alpha: lambda t: 7 * reptile(t) / alpha),
        ("Reptile", lambda alpha: gradient_sum([1] * k)),
    ):
        found = expansion_of(direction, k=k, expect=name)
        assert (found.method, found.exact) == (name, True)


def test_each_method_is_recognised_with_batch_norm_and_relu_and_drawn_with_replacement():
    family = small_images(batches=2)
    found = expansion_of(
        lambda alpha: maml(family.model, alpha), family=family, sampler=independent, k=2, expect="MAML"
    )
    assert found.exact


@pytest.mark.parametrize("direction", [exact_maml, lambda alpha: lambda t: 3 * reptile(t) / alpha])
def test_for_one_step_any_method_is_any_other(direction):
    for name in ("MAML", "FOMAML", "Reptile"):
        found = expansion_of(direction, k=1, expect=name)
        assert (found.method, found.exact) == ("any of them", True)


@pytest.mark.parametrize("name", ["MAML", "FOMAML", "Reptile"])
@pytest.mark.parametrize(
    ("what", "direction"),
    [
        ("rad off AvgGrad", lambda alpha: lambda t: np.ones(len(t.phis[0]))),
        ("is zero", lambda alpha: lambda t: 0 * t.phis[0]),
        ("its sign is wrong", lambda alpha: lambda t: -t.grads[0]),
        ("does not depend on α", lambda alpha: lambda t: (1 + 1e3 * alpha) * t.grads[0]),
    ],
)
def test_for_one_step_what_is_not_the_gradient_is_refused(name, what, direction):
    assert what in suspicion(direction, k=1, expect=name)
    assert expansion_of(direction, k=1).method == "none of them"


def test_a_direction_that_ascends_is_no_method():
    assert "increases the loss" in suspicion(changed(np.negative), expect="MAML")
    assert expansion_of(changed(np.negative)).method == "none of them"


def test_a_constant_added_to_the_direction_is_no_method():
    """The constant is orthogonal to AvgGrad, so that neither coefficient shows it."""
    unit = FAMILY.avg_grad() / np.linalg.norm(FAMILY.avg_grad())
    constant = np.ones(len(unit)) - unit.sum() * unit
    constant *= 100 * np.linalg.norm(FAMILY.avg_grad()) / np.linalg.norm(constant)
    direction = changed(lambda g: g + constant)
    assert "the order α⁰ is 1.6 rad off AvgGrad" in suspicion(direction, expect="MAML")
    assert expansion_of(direction).method == "none of them"


@pytest.mark.parametrize("task", FAMILY.tasks)
def test_an_error_in_one_of_two_tasks_is_found_in_either(task):
    def direction(alpha):
        wrong, right = hessians_at_the_start(alpha), exact_maml(alpha)
        return lambda t: wrong(t) if any(t.batches[0] is batch for batch in task) else right(t)

    assert "agrees with MAML only to order α" in suspicion(direction, expect="MAML")


def test_fomaml_that_is_called_maml_is_found_out():
    report = suspicion(lambda alpha: lambda t: fomaml(t) / alpha, expect="MAML")
    assert "this is FOMAML: the factors I - α H_i are missing" in report


def test_a_product_collapsed_to_one_factor_is_no_known_method():
    def one_factor(alpha):
        def direction(t):
            return t.grads[-1] - alpha * FAMILY.model.hvp(t.phis[0], t.batches[0], t.grads[-1])

        return direction

    assert "too few or too many factors" in suspicion(one_factor, expect="MAML")


def test_adam_inside_is_found_out():
    report = suspicion(lambda alpha: lambda t: reptile(t) / alpha, Adam, expect="Reptile")
    assert "rad off AvgGrad:" in report


def test_another_method_and_a_first_order_of_another_direction_are_named():
    assert suspicion(lambda a: lambda t: reptile(t) / a, expect="FOMAML").endswith("this is Reptile")
    size = 10 * np.linalg.norm(FAMILY.avg_grad_inner()) / np.sqrt(len(FAMILY.phi))
    assert "rad off AvgGradInner" in suspicion(lambda a: lambda t: exact_maml(a)(t) + a * size, expect="MAML")


def test_the_scale_of_the_loss_does_not_matter():
    """The step of the difference is in units of the curvature."""
    model, scale = FAMILY.model, 1e6

    def loss_and_grad(phi, batch):
        loss, grad = model.loss_and_grad(phi, batch)
        return scale * loss, scale * grad

    def meta_gradient(phi, batches, alpha):
        return scale * exact_maml(scale * alpha)(adapt(model, Sgd(scale * alpha), phi, batches))

    found = meta_gradient_expansion(
        meta_gradient,
        loss_and_grad,
        lambda phi, batch, v: scale * model.hvp(phi, batch, v),
        FAMILY.phi,
        FAMILY.tasks,
        2,
        expect="MAML",
    )
    assert found[:2] == pytest.approx((1, -2), rel=1e-5)


@pytest.mark.parametrize("expect", [None, "MAML"])
def test_methods_that_are_the_same_because_the_losses_are_linear_are_not_told_apart(expect):
    class Linear:
        def loss_and_grad(self, phi, batch):
            return float(batch @ phi), batch.copy()

        def hvp(self, phi, batch, v):
            return 0 * v

    rng, model = np.random.default_rng(0), Linear()
    tasks = [[rng.normal(size=4) for _ in range(3)] for _ in range(2)]
    with pytest.raises(UsageError, match=r"^AvgGradInner is zero at this phi"):
        meta_gradient_expansion(
            lambda phi, batches, alpha: maml(model, alpha)(adapt(model, Sgd(alpha), phi, batches)),
            model.loss_and_grad, model.hvp, rng.normal(size=4), tasks, 3, expect=expect,
        )  # fmt: skip


def test_an_unknown_method_and_too_many_steps_are_refused():
    with pytest.raises(UsageError, match="expect one of"):
        expansion_of(lambda alpha: gradient_sum([1, 1, 1]), expect="iMAML")
    with pytest.raises(UsageError, match="k = 4"):
        expansion_of(lambda alpha: gradient_sum([1] * 4), k=4)


@pytest.mark.parametrize("displacement", [reptile, fomaml])
@pytest.mark.parametrize("expect", [None, "Reptile"])
def test_a_displacement_that_is_not_divided_by_alpha_is_named(displacement, expect):
    with pytest.raises(
        UsageError, match=r"the meta-gradient goes to zero with alpha, .*: divide it by alpha "
    ):
        expansion_of(lambda alpha: displacement, expect=expect)


@pytest.mark.parametrize("step", [lambda alpha: 0.01, abs])
def test_a_direction_that_ignores_alpha_or_its_sign_is_named(step):
    def direction(alpha):
        return maml(FAMILY.model, step(alpha))

    said = suspicion(direction, lambda alpha: Sgd(step(alpha)), expect="MAML")
    assert "it does not depend on alpha, or not on its sign" in said


@pytest.mark.parametrize("k", [1, 2])
def test_the_sign_of_the_step_of_the_difference_does_not_matter(k):
    for alpha in (1e-4, -1e-4):
        assert expansion_of(exact_maml, k=k, alpha=alpha).method == ("any of them" if k == 1 else "MAML")


def test_a_direction_with_a_term_that_no_method_has_is_none_of_them():
    def direction(alpha):
        return lambda t: (1 + 50 * alpha) * maml(FAMILY.model, alpha)(t)

    assert expansion_of(direction).method == "none of them"


def test_the_directions_are_measured_at_the_given_alpha_of_both_signs():
    seen = set()

    def direction(alpha):
        seen.add(alpha)
        return exact_maml(alpha)

    expansion_of(direction, alpha=3e-6)
    assert {3e-6, -3e-6} <= seen


def test_the_tolerance_is_that_of_the_ratio():
    """Five per cent of α Σ H_i g_k are missing: the ratio is about 2.5 % wrong."""

    def meta_gradient(phi, batches, alpha):
        t = adapt(FAMILY.model, Sgd(alpha), phi, batches)
        first = sum(FAMILY.model.hvp(phi, batch, t.grads[-1]) for batch in batches[:-1])
        return exact_maml(alpha)(t) - 0.05 * alpha * first

    arguments = meta_gradient, FAMILY.model.loss_and_grad, FAMILY.model.hvp, FAMILY.phi, FAMILY.tasks, 3
    assert meta_gradient_expansion(*arguments).method == "none of them"
    assert meta_gradient_expansion(*arguments, tolerance=0.1).method == "MAML"
