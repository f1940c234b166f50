"""Every planted error makes an exact check fail.

A mutant is the real function's source with one piece of text replaced, so it stays in step with the
code; it takes the function's place wherever the exact checks use it.
"""

from pathlib import Path

import pytest

from reptile_np.meta import meta_gradients
from reptile_np.meta.inner_loop import plain_loop
from reptile_np.theory.claims import algorithm, expansion, steps
from tests.theory.planted import plant

through_the_loop, steps_backwards = meta_gradients._through_the_loop, meta_gradients._steps_backwards

MUTANTS = {
    # maml: (I - α H_1) … (I - α H_{k-1}) g_k
    "maml: H dropped": (through_the_loop, "_product(step, u), (), u)", "_product(step, 0 * u), (), u)"),
    "maml: the sign of H": (through_the_loop, "_product(step, u), (), u)", "_product(step, -u), (), u)"),
    "maml: H twice": (through_the_loop, "_product(step, u), (), u)", "_product(step, 2 * u), (), u)"),
    "maml: α dropped": (through_the_loop, "(model, optimizer, _product", "(model, Sgd(1), _product"),
    "maml: H at the next iterate": (steps_backwards, "hvp, t.phis[i]", "hvp, t.phis[i + 1]"),
    "maml: every H at φ_1": (steps_backwards, "hvp, t.phis[i]", "hvp, t.phis[0]"),
    "maml: H of another minibatch": (steps_backwards, "t.batches[i])", "t.batches[i - 1])"),
    "maml: the first factor twice": (
        through_the_loop,
        "return u",
        "return optimizer_step(model, optimizer, _product(step, u), (), u)[0] if k > 1 else u",
    ),
    "maml: the last factor dropped": (
        through_the_loop,
        "zip(reversed(range(k - 1)), steps, strict=True)",
        "zip(reversed(range(k - 2)), list(steps)[1:])",
    ),
    "maml: the first factor dropped": (
        through_the_loop,
        "zip(reversed(range(k - 1)), steps, strict=True)",
        "zip(reversed(range(1, k - 1)), steps)",
    ),
    "maml: factors in the wrong order": (
        through_the_loop,
        "zip(reversed(range(k - 1)), steps, strict=True)",
        "zip(range(k - 1), reversed(list(steps)))",
    ),
    "maml: no product, a sum": (through_the_loop, "_product(step, u)", "_product(step, t.grads[-1])"),
    "maml: the first gradient": (
        through_the_loop,
        "next(steps).grad if",
        "(next(steps), t.grads[0])[1] if",
    ),
    # reptile: φ_1 - φ_{k+1}
    "reptile: its sign": (meta_gradients.reptile, "t.phis[0] - t.phis[-1]", "t.phis[-1] - t.phis[0]"),
    "reptile: the last step dropped": (meta_gradients.reptile, "t.phis[-1]", "t.phis[-2]"),
    "reptile: the first step dropped": (meta_gradients.reptile, "t.phis[0]", "t.phis[1]"),
    "reptile: φ_1 twice": (meta_gradients.reptile, "return t", "return 2 * t"),
    # fomaml: φ_k - φ_{k+1}
    "fomaml: its sign": (meta_gradients.fomaml, "t.phis[-2] - t.phis[-1]", "t.phis[-1] - t.phis[-2]"),
    "fomaml: from the start": (meta_gradients.fomaml, "t.phis[-2]", "t.phis[0]"),
    "fomaml: the first step": (meta_gradients.fomaml, "t.phis[-2] - t.phis[-1]", "t.phis[0] - t.phis[1]"),
    # gradient_sum: Σ w_i g_i
    "gradient_sum: w_1 dropped": (meta_gradients._weighted_sum, "w[0] * t", "t"),
    "gradient_sum: g_1 dropped": (meta_gradients._weighted_sum, "w[0] * t", "0 * t"),
    "gradient_sum: gradients shifted": (meta_gradients._weighted_sum, "t.grads[1:]", "t.grads[:-1]"),
    "gradient_sum: weights shifted": (meta_gradients._weighted_sum, "zip(w[1:]", "zip(w[:-1]"),
    "gradient_sum: a sign": (meta_gradients._weighted_sum, "total + weight", "total - weight"),
    "gradient_sum: only the last": (meta_gradients._weighted_sum, "total + weight", "weight"),
    # plain_loop: φ_{i+1} = φ_i - α L_i'(φ_i)
    "loop: every gradient at φ_1": (plain_loop, "grad(phis[-1], batch)", "grad(phis[0], batch)"),
    "loop: every step from φ_1": (plain_loop, "state, phis[-1])", "state, phis[0])"),
    "loop: minibatches backwards": (plain_loop, "in batches:", "in batches[::-1]:"),
    "loop: one minibatch for all": (plain_loop, "in batches:", "in batches[:1] * len(batches):"),
    "loop: gradients of another scale": (plain_loop, "grads.append(grad)", "grads.append(2 * grad)"),
    "loop: gradients in reverse": (plain_loop, "tuple(grads)", "tuple(reversed(grads))"),
    "loop: minibatches kept in reverse": (plain_loop, "tuple(batches)", "tuple(batches[::-1])"),
}
CHECKS = [
    algorithm.one_step,
    steps.two_steps,
    expansion.general_weights,
    algorithm.joint_training,
    algorithm.outer_loop,
]


def refuted_by(monkeypatch, function, old, new):
    """The names of the exact checks that do not hold when the mutant takes the function's place."""
    plant(monkeypatch, function, old, new)
    refuted = []
    for check in CHECKS:
        try:
            refuted += [row.source for row in check() if not row.holds]
        except ArithmeticError as error:  # the direction is not even a polynomial of its degree
            refuted.append(f"{check.__name__}: {error}")
    return refuted


@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_mutant_is_refuted_by_an_exact_check(monkeypatch, mutant):
    refuted = refuted_by(monkeypatch, *MUTANTS[mutant])
    print(f"{mutant}: refuted by {'; '.join(dict.fromkeys(refuted))}")  # pytest -rP shows who
    assert refuted


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_real_functions_are_refuted_by_none(check):
    assert all(row.holds for row in check())


def test_every_function_has_mutants_and_there_are_many():
    mutated = [function.__name__ for function, _, _ in MUTANTS.values()]
    maml = {"_through_the_loop", "_steps_backwards"}
    assert set(mutated) == {"plain_loop", "reptile", "fomaml", "_weighted_sum"} | maml
    assert len(mutated) >= 12
    readme = Path(__file__).parents[1].joinpath("README.md").read_text(encoding="utf-8")
    assert f"{len(mutated)} mutants" in readme
