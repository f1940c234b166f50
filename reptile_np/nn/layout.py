"""Names and shapes against one flat parameter vector.

The paper is vector algebra on φ, so all parameters of a network are *one* vector (n,).
A `Layout` names its pieces; the views that it returns share memory with the vector.

Verified by ``tests/nn/test_layout.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from reptile_np.errors import UsageError, number
from reptile_np.nn.ops import Array
from reptile_np.nn.validation import checked_dtype

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """The named pieces of φ, in order: ``shapes[name]`` for each name.

    Examples
    --------
    >>> layout = Layout({"kernel": (2, 3), "bias": (3,)})
    >>> layout.size
    9
    >>> layout.views(np.arange(9.0))["bias"]
    array([6., 7., 8.])
    """

    shapes: Mapping[str, tuple[int, ...]]

    @property
    def size(self) -> int:
        """Length n of φ."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def views(self, phi: Array) -> dict[str, Array]:
        """Return name → view of `phi` (n,), in order; no copies.

        Raises
        ------
        UsageError
            If `phi` is not a vector of length n.
        """
        if not isinstance(phi, np.ndarray):
            raise UsageError(f"phi is a {type(phi).__name__}; give an array ({self.size},)")
        if phi.shape != (self.size,):
            raise UsageError(f"phi has shape {phi.shape}; this layout needs ({self.size},)")
        views, start = {}, 0
        for name, shape in self.shapes.items():
            stop = start + math.prod(shape)
            views[name] = phi[start:stop].reshape(shape)
            start = stop
        return views

    def flatten(self, pieces: Mapping[str, Array]) -> Array:
        """Return the vector (n,) whose views are `pieces`: the inverse of `views`.

        Raises
        ------
        UsageError
            If a name is missing, unknown or of another shape.
        """
        if set(pieces) != set(self.shapes):
            raise UsageError(f"names differ from the layout's: {sorted(set(pieces) ^ set(self.shapes))}")
        for name, shape in self.shapes.items():
            try:
                found = np.shape(pieces[name])
            except ValueError:
                raise UsageError(f"{name} has rows of different lengths; this layout needs {shape}") from None
            if found != shape:
                raise UsageError(f"{name} has shape {found}; this layout needs {shape}")
        vectors = [np.ravel(pieces[name]) for name in self.shapes]
        return np.concatenate(vectors) if vectors else np.empty(0)

    def fill(self, values: Mapping[str, Any], dtype: Any = np.float32) -> Array:
        """Return a vector (n,) with one value for each piece, as the rates of an inner loop.

        The keys are names or patterns of names ("*": any characters); of the keys that match a name the last
        one counts.  A rate of 0 keeps a piece as it is in the inner loop.

        Raises
        ------
        UsageError
            If `values` has no keys, a key matches no name, or a name no key, a value is no number, or `dtype`
            holds no fractions.

        Examples
        --------
        >>> Layout({"conv/kernel": (2,), "norm/beta": (1,), "dense/bias": (1,)}).fill({"*": 0.4, "*/beta": 0})
        array([0.4, 0.4, 0. , 0.4], dtype=float32)
        """
        if not isinstance(values, Mapping):
            raise UsageError(f'fill: the values are {values!r}; give them by name, such as {{"*": 0.4}}')
        for key in values:
            if not any(fnmatchcase(name, key) for name in self.shapes):
                raise UsageError(f"{key!r} matches none of {', '.join(self.shapes)}")
        vector = np.empty(self.size, checked_dtype("fill", dtype))
        for name, view in self.views(vector).items():
            matching = [value for key, value in values.items() if fnmatchcase(name, key)]
            if not matching:
                raise UsageError(f"no value for {name}")
            view[...] = number(f"fill: the value for {name}", matching[-1])
        return vector
