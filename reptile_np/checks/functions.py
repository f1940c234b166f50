"""The user's `loss_and_grad` and `hvp`: they are given copies, and every result is checked.

A result that is not what a check needs ends in one line that names the function, what it returned and
what is needed.  Exceptions raised inside the functions pass through.

Verified by ``tests/checks/test_bad_input.py`` and ``test_side_effects.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from reptile_np.errors import UsageError, whole
from reptile_np.meta.inner_loop import Array, Batch

__all__ = [
    "Functions",
    "Hvp",
    "LossAndGrad",
    "Shapes",
    "as_array",
    "check_options",
    "check_phi",
    "check_tolerance",
    "piece_slices",
    "vector",
]

LossAndGrad: TypeAlias = Callable[[Array, Batch], tuple[Any, Array]]
"""(φ (n,), batch) ↦ (loss, gradient (n,))."""
Hvp: TypeAlias = Callable[[Array, Batch, Array], Array]
"""(φ (n,), batch, v (n,)) ↦ H v (n,)."""
Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
"""Names and shapes of the pieces of φ, in order, as ``model.layout.shapes``."""


def check_phi(phi: Any) -> None:
    """Raise UsageError unless φ is a finite float64 vector (n,) with n ≥ 1."""
    if not isinstance(phi, np.ndarray):
        raise UsageError(f"phi is a {type(phi).__name__}; checks need a float64 NumPy vector (n,)")
    if phi.ndim != 1 or phi.dtype != np.float64 or not phi.size:
        raise UsageError(f"phi is {phi.dtype} {phi.shape}; checks need a float64 NumPy vector (n,), n ≥ 1")
    if not np.isfinite(phi).all():
        raise UsageError(f"phi[{int(np.argmin(np.isfinite(phi)))}] is not finite")


def check_tolerance(tolerance: Any) -> None:
    """Raise UsageError unless it is a finite number above 0."""
    if not isinstance(tolerance, float | int | np.number) or not 0 < tolerance < math.inf:
        raise UsageError(f"tolerance is {tolerance!r}; give a number greater than 0")


def check_options(directions: Any, tolerance: Any, seed: Any) -> None:
    """Raise UsageError unless there is a direction, a finite tolerance above 0, and a seed of at least 0."""
    whole("directions", directions, 1)
    whole("seed", seed, 0)
    check_tolerance(tolerance)


def piece_slices(shapes: Shapes | None, n: int) -> dict[str, slice]:
    """Return where each piece is in φ (n,).

    Raises
    ------
    UsageError
        If `shapes` is not a mapping from names to shapes, or its sizes do not add up to n.
    """
    if shapes is None:
        return {}
    if not isinstance(shapes, Mapping):
        raise UsageError(f"shapes is a {type(shapes).__name__}; give a mapping from names to shapes")
    slices, start = {}, 0
    for name, shape in shapes.items():
        sides = shape if isinstance(shape, tuple | list) else [None]
        if not all(isinstance(side, int | np.integer) and side >= 0 for side in sides):
            raise UsageError(f"shapes[{name!r}] is {shape!r}; give a tuple of whole numbers")
        slices[name] = slice(start, start + math.prod(shape))
        start = slices[name].stop
    if start != n:
        raise UsageError(f"shapes add up to {start} entries, phi has {n}; name every piece of phi once")
    return {name: piece for name, piece in slices.items() if piece.stop > piece.start}


def as_array(value: Any) -> Array:
    """Return the value as a new array; as an array of objects if NumPy cannot convert it."""
    try:
        return np.array(value)
    except (ValueError, TypeError, RuntimeError):  # ragged rows, or a tensor that NumPy cannot read
        return np.array(None)


def vector(value: Any, n: int, what: str) -> Array:
    """Return what a function returned as a new real vector (n,), its floating-point type unchanged.

    Raises
    ------
    UsageError
        If it is anything else.
    """
    array = as_array(value)
    if array.dtype == object and not isinstance(value, np.ndarray) and hasattr(value, "__array__"):
        raise UsageError(
            f"{what} is a {type(value).__name__} that NumPy cannot read (PyTorch: .detach().cpu().numpy())"
        )
    if array.dtype.kind not in "fiu":
        found = "None" if value is None else f"of type {type(value).__name__} and dtype {array.dtype}"
        raise UsageError(f"{what} is {found}; it must be a real NumPy vector of shape ({n},)")
    if array.shape != (n,):
        raise UsageError(f"{what} has shape {array.shape}; phi has ({n},)")
    return array


NOT_ROUNDING = 1e4
"""Differences of two calls, in units of the rounding error of their norm, that rounding does not explain."""


class Functions:
    """A model given by plain functions; `loss_and_grad` and `hvp` as the inner loop calls them.

    `precision` is the relative rounding error of the numbers seen so far: that of float32 if the
    gradient is float32 or every loss is a float32 number, else that of float64.
    """

    def __init__(self, loss_and_grad: LossAndGrad, hvp: Hvp | None = None) -> None:
        self._loss_and_grad, self._hvp = loss_and_grad, hvp
        self._losses: set[float] = set()
        self._float32 = False
        self._last: tuple[Any, Array] | None = None  # the gradient that was returned last, and a copy of it

    def loss_and_grad(self, phi: Array, batch: Batch) -> tuple[float, Array]:
        """Return the loss and the gradient (n,) at φ.

        Raises
        ------
        UsageError
            If the function does not return one number and a vector (n,), or breaks the rules of
            `reptile_np.meta.inner_loop.Differentiable`.
        """
        given = phi.copy()
        result = self._loss_and_grad(given, batch)
        _check_unchanged("loss_and_grad", "phi", given, phi)
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise UsageError(
                f"loss_and_grad returned {_described(result)}; "
                "it must return two values, the loss and the gradient"
            )
        loss, grad = self._number(result[0]), vector(result[1], len(phi), "the gradient")
        self._check_last_gradient("loss_and_grad")
        self._last = result[1], grad
        self._losses.add(loss)
        self._float32 |= grad.dtype in (np.float32, np.float16)
        return loss, grad.astype(np.float64)

    def loss(self, phi: Array, batch: Batch) -> float:
        """Return the loss at φ."""
        return self.loss_and_grad(phi, batch)[0]

    def grad(self, phi: Array, batch: Batch) -> Array:
        """Return the gradient (n,) at φ."""
        return self.loss_and_grad(phi, batch)[1]

    def hvp(self, phi: Array, batch: Batch, v: Array) -> Array:
        """Return ``H v`` (n,) at φ.

        Raises
        ------
        UsageError
            If the function does not return a vector (n,), or changes φ or v.
        """
        assert self._hvp is not None
        given, given_v = phi.copy(), v.copy()
        product = vector(self._hvp(given, batch, given_v), len(phi), "the Hessian product")
        _check_unchanged("hvp", "phi", given, phi)
        _check_unchanged("hvp", "v", given_v, v)
        self._check_last_gradient("hvp")
        return product.astype(np.float64)

    def _check_last_gradient(self, function: str) -> None:
        """Raise `UsageError` if `function` has changed the gradient that `loss_and_grad` returned last."""
        if self._last is not None and not np.array_equal(*self._last, equal_nan=True):
            raise UsageError(
                f"{function} writes into the gradient that loss_and_grad returned before, and adapt keeps "
                "the gradients of all steps: return a new array (a copy) at each call"
            )

    def check_repeatable(self, phi: Array, batch: Batch) -> None:
        """Raise `UsageError` if the functions do not give the same numbers twice, up to rounding."""
        (loss, grad), (again, grad_again) = (self.loss_and_grad(phi, batch) for _ in range(2))
        self.check_same("loss", loss, again)
        self.check_same("gradient", grad, grad_again)
        if self._hvp is not None:
            v = np.ones(len(phi))
            self.check_same("Hessian product", self.hvp(phi, batch, v), self.hvp(phi, batch, v))

    def check_same(self, what: str, one: Any, other: Any, arguments: str = "phi and batch") -> None:
        """Raise `UsageError` if two results for the same arguments differ by more than rounding."""
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is reported elsewhere
            far = np.abs(one - other) > NOT_ROUNDING * self.precision * np.linalg.norm(one)
        if np.any(far):
            place = int(np.argmax(far))
            first, then = (float(np.ravel(numbers)[place]) for numbers in (one, other))
            adds_up = "" if what == "loss" else ", gradients that add up over the calls (no zero_grad)"
            raise UsageError(
                f"the {what} is {_told_apart(first, then)}, for the same {arguments}: is there dropout, "
                f"augmentation{adds_up}, or a change of the batch in place? make the functions deterministic"
            )

    @property
    def single(self) -> bool:
        """Whether the model computes in float32, as far as its results show."""
        finite = [loss for loss in self._losses if math.isfinite(loss)]
        with np.errstate(over="ignore"):
            narrow = len(finite) > 1 and all(float(np.float32(loss)) == loss for loss in finite)
        return self._float32 or narrow

    @property
    def precision(self) -> float:
        """The relative rounding error of the model's results."""
        return float(np.finfo(np.float32 if self.single else np.float64).eps)

    @staticmethod
    def _number(loss: Any) -> float:
        shape = getattr(loss, "shape", ())
        if loss is None or tuple(shape) != ():
            raise UsageError(
                f"the loss is {_described(loss)}; it must be one number (a mean or a sum over examples)"
            )
        try:
            if isinstance(loss, complex | np.complexfloating) or "complex" in str(getattr(loss, "dtype", "")):
                raise TypeError
            return float(loss)
        except (TypeError, ValueError):
            raise UsageError(f"the loss is {_described(loss)}; it must be one real number") from None


def _check_unchanged(function: str, name: str, after: Array, before: Array) -> None:
    if not np.array_equal(after, before, equal_nan=True):
        raise UsageError(
            f"{function} changes {name} in place, and adapt would continue with the changed values: copy "
            f"{name} in {function} first"
        )


def _told_apart(first: float, then: float) -> str:
    """Return two different numbers with as many digits as show it, at least 6."""
    digits = next((d for d in range(6, 17) if f"{first:.{d}g}" != f"{then:.{d}g}"), 17)
    return f"{first:.{digits}g}, then {then:.{digits}g}"


def _described(value: Any) -> str:
    if value is None:
        return "None"
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"a {type(value).__name__} of shape {tuple(shape)}"
    length = f" of {len(value)}" if isinstance(value, tuple | list) else ""
    return f"a {type(value).__name__}{length}"
