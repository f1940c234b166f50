"""Where section 4.1 does not apply: cases in which its statements fail, and by how much.

The expansions are averages over *exchangeable* minibatches, for *smooth* losses and *plain SGD*.  `cycling`,
`fixed_roles`, `overlapping`, `adam_inside` and `kinks` each drop one of these conditions.  Minibatches are
exchangeable if their joint distribution does not change when they are permuted.  If the loss of a minibatch
is the mean or the sum of its examples' losses, ``E[H_i g_j] = E[H_j g_i]`` holds under a weaker condition:
the joint weights with which examples enter minibatches i and j are symmetric.  The two may overlap.
`batch_norm` shows that AvgGrad is not the gradient of the task's loss; `architectures` has errata 3 and 5.

Verified by ``tests/test_paper.py`` and ``tests/theory/test_claim_mutants.py``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from reptile_np.meta.inner_loop import Array, Batch, adapt
from reptile_np.meta.meta_gradients import reptile
from reptile_np.meta.optimizers import Adam
from reptile_np.nn.models import finn_omniglot_cnn, mini_imagenet_cnn, omniglot_cnn
from reptile_np.theory.claims.claim import Claim, at_least, close, equal
from reptile_np.theory.claims.shared import example, remainders
from reptile_np.theory.expansions import METHODS, Minibatches, Sampler, TaskFamily, stated
from reptile_np.theory.networks import sine_waves, small_images

__all__ = [
    "BATCH_NORM",
    "adam_inside",
    "architectures",
    "batch_norm",
    "cycle",
    "cycling",
    "first_roles",
    "fixed_roles",
    "joined",
    "kinks",
    "overlapping",
    "relative",
    "verify",
]

BATCH_NORM = "breakdown: batch norm across minibatches"


def verify() -> list[Claim]:
    """Return the claims about the cases in which the analysis does not apply."""
    return [
        *cycling(),
        *fixed_roles(),
        *overlapping(),
        *adam_inside(),
        *batch_norm(),
        *kinks(),
        *architectures(),
    ]


def cycle(task: Minibatches, k: int) -> Iterable[tuple[Batch, ...]]:
    """Draw an order of the task's minibatches and repeat it until there are k."""
    for order in itertools.permutations(task):
        yield tuple(itertools.islice(itertools.cycle(order), k))


def first_roles(task: Minibatches, k: int) -> Iterable[tuple[Batch, ...]]:
    """Draw the first k minibatches in their order, always: fixed support, fixed query."""
    yield tuple(task[:k])


def cycling() -> list[Claim]:
    """Return the claims about two minibatches visited as a, b, a, in place of three different ones."""
    family = example(batches=2)
    inner = family.avg_grad_inner()
    own = family.mean(lambda one: family.hvp(one, family.grad(one)), 1)
    order_1 = replace(family, sampler=cycle).expansion({"Reptile": METHODS["Reptile"]}, 3, 2)[1, 0]
    return [
        equal(
            "a, b, a: Reptile's α¹ is -(2 AvgGradInner + E[H_a g_a]): the difference",
            "breakdown: cycling minibatches",
            [0, 0],
            order_1 + 2 * inner + own,
        ),
        at_least(
            "a, b, a: relative distance of Reptile's α¹ from the stated -3 AvgGradInner",
            "breakdown: cycling minibatches",
            0.05,
            relative(order_1, stated("Reptile", 3)[1][0] * inner),
        ),
    ]


def fixed_roles() -> list[Claim]:
    """Return the claims about a task whose first and last minibatch are always the same ones."""
    family = replace(example(), sampler=first_roles)
    inner, exchanged = _both_orders(family)
    maml = family.expansion({"MAML": METHODS["MAML"]}, 2, 2)[1, 0]
    what, source = "L_0 and L_1 fixed", "breakdown: unequal roles"
    distances = relative(exchanged, inner), relative(maml, -2 * inner)
    return [
        at_least(f"{what}: relative distance of E[H_1 g_0] from E[H_0 g_1]", source, 0.05, distances[0]),
        at_least(f"{what}: relative distance of MAML's α¹ from -2 E[H_0 g_1]", source, 0.05, distances[1]),
        equal(f"{what}: MAML's α¹ + E[H_0 g_1] + E[H_1 g_0]", source, [0, 0], maml + inner + exchanged),
    ]


def overlapping() -> list[Claim]:
    """Return the claims about minibatches {i} and {i, j} of examples: they overlap, and differ in size.

    If the loss of a minibatch is the mean or the sum of its examples' losses, E[H_1 g_0] = E[H_0 g_1] still
    holds: i and j enter symmetrically.  With batch norm the loss is neither.
    """
    what = "{i} and {i, j} overlap: relative distance of E[H_1 g_0] from E[H_0 g_1]"
    finding = "beyond the paper"
    exact = replace(example(), sampler=_with_and_without(lambda a, b: (a + b) / 2))
    with_norm, without = (
        replace(small_images(batch_norm=norm), sampler=_with_and_without(joined)) for norm in (True, False)
    )
    inner, exchanged = _both_orders(exact)
    return [
        equal(
            "{i} and {i, j} overlap, losses add: E[H_1 g_0] - E[H_0 g_1]", finding, [0, 0], exchanged - inner
        ),
        close(f"{what}, conv without batch norm", finding, 0.0, relative(*_both_orders(without)), 1e-13),
        at_least(f"{what}, conv + batch norm", BATCH_NORM, 0.01, relative(*_both_orders(with_norm))),
    ]


def _with_and_without(join: Callable[[Batch, Batch], Batch]) -> Sampler:
    """Return the sampler of the pairs: a minibatch, and the same joined with another."""
    return lambda task, k: [(a, join(a, b)) for a, b in itertools.permutations(task, 2)]


def _both_orders(family: TaskFamily) -> tuple[Array, Array]:
    """Return ``E[H_0 g_1]`` and ``E[H_1 g_0]``."""
    inner = family.avg_grad_inner()
    return inner, family.mean(lambda zero, one: family.hvp(one, family.grad(zero)), 2)


def adam_inside() -> list[Claim]:
    """Return the claim that with Adam inside E[(φ - W)/α] is outside the span of AvgGrad and AvgGradInner."""
    family, alpha = sine_waves(), 1e-6

    def direction(*batches: Batch) -> Array:
        return reptile(adapt(family.model, Adam(alpha), family.phi, batches)) / alpha

    g = family.mean(direction, 2)
    span = np.stack([family.avg_grad(), family.avg_grad_inner()], axis=1)
    left = g - span @ np.linalg.lstsq(span, g)[0]
    sine = np.linalg.norm(left) / np.linalg.norm(g)
    claim = "Adam inside, sine MLP, k = 2: sine of the angle of E[(φ - W)/α] to AvgGrad, AvgGradInner"
    return [at_least(claim, "breakdown: Adam inside", 0.1, float(sine))]


def batch_norm() -> list[Claim]:
    """Return the claims that with batch norm the expected loss of a minibatch is not the loss of the task."""
    what = "relative distance of AvgGrad from the gradient of the whole task's loss"
    composed, additive = (_distance_to_whole_task(small_images(batch_norm=norm)) for norm in (True, False))
    return [
        close(f"conv without batch norm: {what}", "section 4.1", 0.0, additive, 1e-13),
        at_least(f"conv + batch norm: {what}", BATCH_NORM, 0.01, composed),
    ]


def _distance_to_whole_task(family: TaskFamily) -> float:
    whole = np.mean([family.grad(joined(*task)) for task in family.tasks], axis=0)
    # the loss is a sum over examples, and AvgGrad is of one of the task's minibatches
    return relative(family.avg_grad(), whole / len(family.tasks[0]))


def kinks() -> list[Claim]:
    """Return the claims that the expansion does not hold beyond the first kink of a ReLU."""
    steps = np.array([1e-3, 10**-2.5])
    near, far = remainders(small_images(), 2, steps)[:, 0]
    jump = float(far / near) / float(steps[1] / steps[0]) ** 2
    claim = "conv + batch norm, Reptile: remainder / α² at α|H| = 3.2e-3, divided by that at 1e-3"
    return [at_least(claim, "breakdown: ReLU kinks", 100.0, jump)]


def architectures() -> list[Claim]:
    """Return errata 3 and 5: the released networks are not Finn's, and changed between versions."""
    released, finns = omniglot_cnn(5).layout, finn_omniglot_cnn(5).layout
    sizes = [
        (
            layout.size,
            sum(math.prod(shape) for name, shape in layout.shapes.items() if name.startswith("dense")),
        )
        for layout in (released, finns)
    ]
    rng = np.random.default_rng(0)
    late = mini_imagenet_cnn(5, filters=4, order="conv-norm-pool")
    early = mini_imagenet_cnn(5, filters=4, order="conv-pool-norm")
    phi = late.init(rng, np.float64)
    x = rng.standard_normal((4, 84, 84, 3))
    return [
        equal(
            "Omniglot networks, parameters and those of the head: released; Finn's, with a mean over space",
            'erratum 3: "same architecture as Finn et al."',
            [113221, 256 * 5 + 5, 112005, 64 * 5 + 5],
            [*sizes[0], *sizes[1]],
        ),
        at_least(
            "Mini-ImageNet, same φ: relative distance of pooling before from after normalising",
            "erratum 5: v1's order",
            0.01,
            relative(early.predict(phi, x), late.predict(phi, x)),
        ),
    ]


def joined(*batches: Any) -> Batch:
    """Return the minibatch of all the examples of some minibatches (x, y)."""
    return tuple(np.concatenate(part) for part in zip(*batches, strict=True))


def relative(one: Array, other: Array) -> float:
    """Return ``|one - other| / |other|``."""
    difference, size = np.ravel(one - other), np.ravel(other)
    return math.sqrt(float(difference @ difference) / float(size @ size))
