"""Check derivatives by the order at which the remainder of the Taylor polynomial falls.

Verified by ``tests/checks/test_checks.py``, ``test_tolerances.py`` and ``test_taylor_order.py``.
"""

from __future__ import annotations

import math

import numpy as np

from reptile_np.checks.functions import Functions, Hvp, LossAndGrad, check_options, check_phi
from reptile_np.checks.gradients import random_directions
from reptile_np.checks.report import CheckFailure, Report, passed
from reptile_np.errors import check_callable
from reptile_np.meta.inner_loop import Array, Batch

__all__ = ["VISIBLE", "check_taylor_order"]

# A remainder counts if it is larger than this times the sum of the loss and its change.  In float32 that is
# 170 rounding errors of a single number (1.2e-7), enough for a sum of many; in float64 a wider margin costs
# nothing.
VISIBLE = {True: 2e-5, False: 1e-11}
# If R falls so much faster than expected, the steps are too large for t² or t³ to show.  For right
# derivatives the order found is often higher than expected, but by less: by 3.4 for x⁶ at 0.
TOO_FAST = 8
NOT_FINITE = "a value at φ, or close to it, is not finite"


def check_taylor_order(
    loss_and_grad: LossAndGrad,
    phi: Array,
    batch: Batch,
    *,
    hvp: Hvp | None = None,
    directions: int = 4,
    tolerance: float = 0.1,
    seed: int = 0,
) -> Report:
    """Check that the remainder of the Taylor polynomial is of order t², or of order t³ if `hvp` is given.

    With R(t) the root mean square, over ±v for each direction v, of
    ``L(φ + tv) - L - t g·v (- t² v·Hv / 2)``, a right derivative keeps ``R / t^order`` bounded; a wrong
    g·v or v·Hv makes it grow as t falls.  Of H, v·Hv tests the symmetric part only: `check_hvp` tests
    all of H v.  (For one v alone the next two orders can cancel at some t, and R would then
    seem to grow below that t.  For the mean over ±v they cannot cancel.)

    Steps t are 10 % of the norm of φ and smaller.  Of the longest run of steps at which R is larger than
    rounding errors, the smaller half is used.  Let S be the maximum of ``R / t^order`` over the larger half
    of the steps used and S' over the smaller half.  The order found is
    ``order - log(S' / S) / log(t / t')``, with t the smallest step of the larger half and t' the smallest of
    all.  With 1 to 3 steps, or if the order found is more than 8 too high, nothing is measured: the report
    says so, holds, and its error is 0.

    Where all steps are too large for the curvature of the loss, a wrong gradient can pass: for a fit of
    ``a exp(-k x)`` at a = 10⁴, the gradient with the wrong sign gives the order 2.6 and the right one 4.1.

    Small errors pass.  On the demo's sine MLP (`reptile_np.theory.networks.sine_waves`, in float64) the
    smallest relative error that is refused is, depending on the minibatch and the seed, 8e-5 to 6e-4 if all
    of H v is wrong by it, and 3e-6 to 4e-5 if all of the gradient is, without `hvp`.  `check_grad` and
    `check_hvp` see smaller errors: there they refuse those from about 1e-6 on, their tolerance.

    Parameters
    ----------
    hvp
        ``(phi, batch, v) -> H v (n,)``; without it only the gradient is checked.
    loss_and_grad, phi, batch, directions, seed
        As in `check_grad`.  The model may compute in float32 if its results show it: the gradient is
        float32, or every loss is a float32 number.  If it adds up or averages float32 losses in float64,
        return the gradient in float32; else rounding looks like a wrong gradient.
    tolerance
        By how much the order found may be less than 2 (3 with `hvp`).  The report's error is that
        difference.  If R is all rounding at every step, the error is 0; the derivatives then count as right
        if the loss changes at some step by more than ten times what counts as rounding, else as not measured.

    Raises
    ------
    CheckFailure
        If the order found is too low, or a value at φ or close to it is not finite.
    UsageError
        As `check_grad`.
    """
    check_phi(phi)
    check_options(directions, tolerance, seed)
    check_callable(loss_and_grad=loss_and_grad, **({} if hvp is None else {"hvp": hvp}))
    model = Functions(loss_and_grad, hvp)
    loss, grad = model.loss_and_grad(phi, batch)
    order, name = (2 if hvp is None else 3), f"{directions} random directions"
    steps = np.logspace(-1, -7, 25) * (float(np.linalg.norm(phi)) or 1.0)
    changes, polynomials = [], []
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is left out below, or reported
        for v in random_directions(phi, directions, seed):
            curve = 0.0 if hvp is None else v @ model.hvp(phi, batch, v)
            for t in (steps, -steps):
                changes.append(np.array([model.loss(phi + ti * v, batch) for ti in t]) - loss)
                polynomials.append(t * (grad @ v) + t**2 * curve / 2)
        remainders = np.subtract(changes, polynomials)
    model.check_repeatable(phi, batch)
    finite = np.all(np.isfinite(remainders), axis=0)
    near = int(np.argmin([*finite[::-1], False]))  # how many of the smallest steps are finite
    if near < 4:
        raise CheckFailure(Report("Taylor order", name, math.inf, tolerance, NOT_FINITE))
    steps, size, remainders = steps[-near:], np.abs(changes).max(axis=0)[-near:], remainders[:, -near:]
    scale = np.abs(remainders).max(axis=0)  # for each step: squares of tiny or huge numbers are 0 or infinite
    scale[scale == 0] = 1.0
    left = scale * np.sqrt(np.mean(np.square(remainders / scale), axis=0))
    rounding = VISIBLE[model.single] * (abs(loss) + size)
    begin, end = _longest_run(left > rounding)
    if end - begin < 4:
        # no remainder is seen, though one much smaller than the change of the loss would be
        seen = begin == end and (size > 10 * rounding).any()
        return Report("Taylor order", name, 0.0, tolerance, unmeasured=() if seen else (name,))
    begin = min(end - 4, (begin + end) // 2)  # at the larger steps the next orders may hide it
    steps, left = steps[begin:end], left[begin:end]
    half, last = len(steps) // 2, len(steps) - 1
    scaled = left / left.max() / (steps / steps[0]) ** order  # 1 / steps^3 can be infinite
    growth = float(scaled[half:].max() / scaled[:half].max())
    found = order - math.log(growth) / math.log(steps[half - 1] / steps[last])
    if found > order + TOO_FAST:
        name += f" (the remainder falls like t^{found:.0f}: higher orders hide the t^{order})"
        return Report("Taylor order", name, 0.0, tolerance, unmeasured=(name,))
    culprit = "gradient" if found < 1.5 or hvp is None else "Hessian product"
    suspect = f"the remainder falls like t^{found:.2f}, not t^{order}: the {culprit} is wrong"
    if found < 0.5:  # a wrong gradient alone leaves t^1; rounding, and a loss that jumps, t^0
        suspect += ", the loss jumps, or it was rounded to float32: then return the gradient in float32"
    error = max(order - found, 0.0)
    return passed(Report("Taylor order", name, error, tolerance, suspect if error > tolerance else ""))


def _longest_run(true: Array) -> tuple[int, int]:
    """Return begin and end of the longest run of True, the first of equally long ones."""
    edges = np.flatnonzero(np.diff([False, *true, False])).reshape(-1, 2)
    return max(((int(a), int(b)) for a, b in edges), key=lambda run: run[1] - run[0], default=(0, 0))
