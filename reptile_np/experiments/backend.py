"""Choosing the table of kernels that a run uses, and saying why there are no native ones.

Verified by ``tests/experiments/test_backend.py``, and ``tests/test_cli.py`` (an installation that is hidden).
"""

from __future__ import annotations

from reptile_np.errors import UsageError
from reptile_np.nn import native
from reptile_np.nn.native.threads import thread_count
from reptile_np.nn.ops import NUMPY, Ops

__all__ = ["choose_ops", "kernels_missing"]


def choose_ops(name: str = "auto", threads: int | None = None) -> Ops:
    """Return the table called "auto", "numpy", "native" or "native-<isa>".

    "auto" is the best native variant here, or NumPy if the package was installed without a compiler.

    Raises
    ------
    UsageError
        For an unknown name, a variant that this machine or installation does not have, or a number of
        threads that no table takes.
    """
    if threads is not None:
        thread_count(threads)
    name = str(name)  # None too is refused with the names there are
    if name == "numpy" or (name == "auto" and not native.available()):
        return NUMPY
    isa = name.removeprefix("native-") if name.startswith("native-") else None
    if isa is None and name not in ("auto", "native"):
        variants = [f"native-{isa}" for isa in native.available()]
        raise UsageError(
            f'--ops "{name}": must be one of {", ".join(["auto", "numpy", "native", *variants])}'
        )
    if missing := kernels_missing():
        raise UsageError(f"--ops {name}: {missing}")
    return native.load(isa, threads=threads)


def kernels_missing() -> str:
    """Return why there are no native kernels and what to do, in one line; nothing if there are some."""
    return "" if native.available() else native.explain_absence()
