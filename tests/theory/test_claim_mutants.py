"""Every claim of ``reptile-np verify`` is refuted by an error planted in what it is about or what it uses.

A claim that no error refutes says nothing.  Each row of `PLANTED` names a function of the package, the
text that is replaced in it, and the claims that are measured anew (a section's function, or several).
"""

from collections import defaultdict

import numpy as np
import pytest

from reptile_np.meta import training
from reptile_np.meta.inner_loop import plain_loop
from reptile_np.meta.meta_gradients import _through_the_loop, _weighted_sum
from reptile_np.meta.optimizers import Adam
from reptile_np.nn.models import conv_cnn, mini_imagenet_cnn
from reptile_np.nn.parameter_free import Relu
from reptile_np.theory.claims import algorithm, breakdown, expansion, manifold, network, steps
from reptile_np.theory.expansions import TaskFamily, distinct, independent, run
from reptile_np.theory.manifolds import (
    Sphere,
    distance_gradient,
    half_squared_distance,
    move,
    nearest_point,
)
from reptile_np.theory.networks import small_images
from reptile_np.theory.polynomials import Polynomials, random_tasks
from tests.theory.planted import plant
from tests.theory.test_claims import LIST

EXACT = (
    algorithm.verify,
    steps.two_steps,
    expansion.inner_products,
    expansion.general_weights,
)
NETWORKS = (network.verify,)
PLANTED = {
    "run: another starting point": (run, "phi, batches)", "2 * phi, batches)", [steps.two_steps]),
    "adapt: every gradient at φ_1": (
        plain_loop,
        "grad(phis[-1], batch)",
        "grad(phis[0], batch)",
        [
            *EXACT,
            algorithm.where_reptile_ends,
            steps.three_steps,
            expansion.beyond,
            expansion.potentials,
            breakdown.cycling,
            breakdown.fixed_roles,
            *NETWORKS,
        ],
    ),
    "adapt: twice the gradient": (
        plain_loop,
        "states.append(state)",
        "states.append(state)\n        grad = 2 * grad",
        [steps.three_steps, expansion.expected_gradients],
    ),
    "adapt: one minibatch for all": (plain_loop, "in batches:", "in batches[:1] * len(batches):", NETWORKS),
    "maml: twice the last gradient": (
        _through_the_loop,
        "next(steps).grad if",
        "2 * next(steps).grad if",
        [*EXACT, *NETWORKS],
    ),
    "maml: H dropped": (
        _through_the_loop,
        "_product(step, u), (), u)",
        "_product(step, 0 * u), (), u)",
        [expansion.potentials],
    ),
    "gradient_sum: weights shifted": (_weighted_sum, "zip(w[1:]", "zip(w[:-1]", [expansion.general_weights]),
    "meta_train: twice the direction": (
        training._outer_step,
        "total.direction / meta_batch",
        "2 * total.direction / meta_batch",
        [algorithm.outer_loop],
    ),
    "grad: twice": (
        TaskFamily.grad,
        "return self",
        "return 2 * self",
        [*EXACT, *NETWORKS],
    ),
    "Polynomials.hvp: not symmetric": (Polynomials.hvp, "[0] @ v", "[0] @ v[::-1]", [expansion.potentials]),
    "hvp: twice": (TaskFamily.hvp, "return self", "return 2 * self", EXACT),
    "distinct: one order only": (
        distinct,
        "permutations",
        "combinations",
        [expansion.inner_products, expansion.potentials],
    ),
    "independent: one order only": (
        independent,
        "product(task, repeat=k)",
        "combinations_with_replacement(task, k)",
        [expansion.inner_products],
    ),
    "task_loss: its first minibatch": (
        algorithm.task_loss,
        "np.mean(np.stack(task), axis=0)",
        "task[0]",
        [algorithm.joint_training],
    ),
    "random_tasks: one minibatch repeated": (
        random_tasks,
        "list(task)",
        "[task[0]] * len(task)",
        [breakdown.cycling, breakdown.fixed_roles],
    ),
    "distance_gradient: twice": (
        distance_gradient,
        "return phi - manifold.project(phi)",
        "return 2 * (phi - manifold.project(phi))",
        [manifold.projection_gradient],
    ),
    "nearest_point: twice": (
        nearest_point,
        "return solve",
        "return 2 * solve",
        [manifold.figure_2, manifold.without_common_point],
    ),
    "move: a hundredth": (
        move,
        "return (1",
        "epsilon = (0 * phi[0] + epsilon) / 100\n    return (1",
        [manifold.figure_2, manifold.without_common_point, manifold.partial_minimisation],
    ),
    "move: wrong sign": (
        move,
        "(1 - epsilon) * phi + epsilon",
        "(1 + epsilon) * phi - epsilon",
        [manifold.figure_2, manifold.without_common_point, manifold.partial_minimisation],
    ),
    "move: 5ε": (
        move,
        "return (1",
        "epsilon = 5 * epsilon\n    return (1",
        [manifold.figure_2, manifold.without_common_point, manifold.partial_minimisation],
    ),
    "Sphere: the farthest point": (
        Sphere.project,
        "self.centre + self.radius",
        "self.centre - self.radius",
        [manifold.projection_gradient],
    ),
    "half_squared_distance: the whole square": (
        half_squared_distance,
        "d @ d / 2",
        "d @ d",
        [manifold.projection_gradient, manifold.two_objectives],
    ),
    "two objectives: a second output without z": (
        manifold.skew_task,
        "y - x * z",
        "y",
        [manifold.two_objectives],
    ),
    "sine waves: phases of half a turn": (
        manifold.sine_waves,
        "2 * np.pi / 16",
        "np.pi / 16",
        [manifold.verify],
    ),
    "sine waves: two phases": (
        manifold.sine_waves,
        "np.arange(16) * 2 * np.pi / 16",
        "np.arange(2) * np.pi",
        [manifold.verify],
    ),
    "overlapping: one order only": (
        breakdown._with_and_without,
        "permutations",
        "combinations",
        [breakdown.overlapping],
    ),
    "small_images: batch norm the other way round": (
        small_images,
        "if batch_norm else",
        "if not batch_norm else",
        [breakdown.overlapping, breakdown.batch_norm],
    ),
    "Adam: no division by √v": (
        Adam.update,
        " / (np.sqrt(v) + self.epsilon)",
        "",
        [breakdown.adam_inside],
    ),
    "Relu: no kink": (Relu.forward, "x.real > 0", "x.real > -np.inf", [breakdown.kinks]),
    "conv_cnn: three blocks": (conv_cnn, "max(size[:2]) > 3", "max(size[:2]) > 7", [breakdown.architectures]),
    "mini_imagenet_cnn: one order": (
        mini_imagenet_cnn,
        "middle.reverse()",
        "pass",
        [breakdown.architectures],
    ),
}


@pytest.fixture(scope="module")
def refuted():
    """For each planted error, the claims (as in claims.txt, without what is stated) that do not hold."""
    found = defaultdict(set)
    for name, (function, old, new, sections) in PLANTED.items():
        with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):  # 0 / 0 does not hold
            plant(patch, function, old, new)
            for section in sections:
                found[name] |= {(row.source, row.claim) for row in section() if not row.holds}
    return found


@pytest.mark.parametrize("name", PLANTED)
def test_every_planted_error_refutes_a_claim(refuted, name):
    assert refuted[name]


def test_moves_of_the_wrong_sign_refute_every_claim_that_moves_converge(refuted):
    claims = [tuple(line.split(" | ")[:2]) for line in LIST.read_text(encoding="utf-8").splitlines()]
    about = {(source, claim) for source, claim in claims if "moves" in claim and "converge" in claim}
    assert len(about) == 3
    assert about <= refuted["move: wrong sign"]


def test_every_claim_is_refuted_by_a_planted_error(refuted):
    claims = [tuple(line.split(" | ")[:2]) for line in LIST.read_text(encoding="utf-8").splitlines()]
    assert [claim for claim in claims if claim not in set().union(*refuted.values())] == []
