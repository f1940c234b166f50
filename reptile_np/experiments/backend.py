"""Choosing the table of kernels that a run uses.

Verified by ``tests/experiments/test_backend.py``.
"""

from __future__ import annotations

from reptile_np.errors import UsageError
from reptile_np.nn import native
from reptile_np.nn.ops import NUMPY, Ops


def choose_ops(name: str = "auto", threads: int | None = None) -> Ops:
    """Return the table called "auto", "numpy", "native" or "native-<isa>".

    "auto" is the best native variant here, or NumPy if the package was installed without a compiler.

    Raises
    ------
    UsageError
        For an unknown name, or a variant that this machine or installation does not have.
    """
    if name == "numpy":
        return NUMPY
    if name == "auto":
        return native.load(threads=threads) if native.available() else NUMPY
    if name == "native":
        return native.load(threads=threads)
    if name.startswith("native-"):
        return native.load(name.removeprefix("native-"), threads=threads)
    variants = [f"native-{isa}" for isa in native.available()]
    raise UsageError(f'--ops "{name}": must be one of {", ".join(["auto", "numpy", "native", *variants])}')
