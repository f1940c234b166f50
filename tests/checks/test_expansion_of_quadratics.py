"""Methods on quadratic losses of chosen centres and curvatures are recognised, whatever the tasks' order."""

import numpy as np
import pytest

from reptile_np.checks import meta_gradient_expansion


def quadratics(centres, scales=None):
    """Tasks of losses ``s/2 |φ - c|²``; a minibatch is (s, c)."""
    scales = np.ones(len(centres)) if scales is None else np.asarray(scales)
    tasks = [[(s, np.asarray(c, float)) for c in task] for s, task in zip(scales, centres, strict=True)]

    def loss_and_grad(phi, batch):
        s, c = batch
        return float(s / 2 * ((phi - c) ** 2).sum()), s * (phi - c)

    return tasks, loss_and_grad, lambda phi, batch, v: batch[0] * v


def of_quadratics(method, phi, tasks, loss_and_grad, hvp, **options):
    def meta_gradient(phi, batches, alpha):
        phis, grads = [phi], []
        for batch in batches:
            grads.append(loss_and_grad(phis[-1], batch)[1])
            phis.append(phis[-1] - alpha * grads[-1])
        if method == "Reptile":
            return sum(grads)
        direction = grads[-1]
        for batch, point in reversed(list(zip(batches[:-1], phis[:-2], strict=True))):
            direction = direction - (alpha * hvp(point, batch, direction) if method == "MAML" else 0)
        return direction

    return meta_gradient_expansion(
        meta_gradient, loss_and_grad, hvp, np.asarray(phi, float), tasks, 2, **options
    )


CENTRES = [[[0.0, 1.0], [2.0, 0.5]], [[-1.0, 0.0], [0.5, 3.0]]]


@pytest.mark.parametrize("method", ["MAML", "FOMAML", "Reptile"])
def test_a_method_is_recognised_although_both_terms_have_the_same_direction(method):
    """The Hessian is the identity, so AvgGradInner is AvgGrad up to a factor."""
    found = of_quadratics(method, [1.0, -1.0], *quadratics([[[0.3, 0.4]] * 2, [[-1.0, 2.0]] * 2]))
    assert (found.method, found.exact) == (method, True)
    one = of_quadratics(method, [1.0], *quadratics([[[0.0], [2.0]], [[-1.0], [0.5]]]))
    assert (one.method, one.exact) == (method, True)


@pytest.mark.parametrize("method", ["MAML", "FOMAML", "Reptile"])
@pytest.mark.parametrize("scales", [(1, 100), (0.01, 1), (100, 1), (0, 1), (1, 0)])
def test_the_order_and_the_curvature_of_the_tasks_do_not_matter(method, scales):
    found = of_quadratics(method, [1.0, -1.0], *quadratics(CENTRES, scales))
    assert (found.method, found.exact) == (method, True)


def test_a_minibatch_that_is_solved_already_says_nothing_about_the_step():
    found = of_quadratics("MAML", CENTRES[0][0], *quadratics(CENTRES, (1, 100)))
    assert (found.method, found.exact) == ("MAML", True)


def test_at_the_joint_optimum_a_meta_gradient_is_no_displacement():
    scales = (1, 3)
    joint = np.average(np.mean(CENTRES, axis=1), axis=0, weights=scales)
    for phi in (joint, joint + 1e-8):
        found = of_quadratics("MAML", phi, *quadratics(CENTRES, scales))
        assert found.avg_grad_inner == pytest.approx(-2, rel=1e-6)
