"""The C extension: the only file that imports it, and its tables of kernels.

Verified by ``tests/nn/native/test_loading.py``.
"""

from __future__ import annotations

from typing import Any

from reptile_np.errors import UsageError
from reptile_np.nn.native.installation import explain_absence

__all__ = ["VARIANTS", "available", "entries_of", "ffi", "lib", "table_of"]

try:
    from reptile_np.nn.native._kernels import ffi, lib
except ImportError:  # installed without a C compiler
    ffi = lib = None

VARIANTS = ("avx512", "avx2", "neon", "portable", "portable16")
"""Every instruction set that kernels are written for, best first.  portable16 has the micro-kernel of avx512
in portable code: it is slow, serves tests only, and is built only on request (``csrc/README.md``)."""


def available() -> tuple[str, ...]:
    """Return the variants that this machine can run, best first; () if the extension was not built."""
    if lib is None:
        return ()
    return tuple(name for name in VARIANTS if lib.rk_dispatch(name.encode()) != ffi.NULL)


def table_of(name: str) -> Any:
    """Return the ``rk_table`` of a variant.

    Raises
    ------
    UsageError
        If this machine cannot run it, or there are no kernels.
    """
    if not available():
        raise UsageError(explain_absence())
    if name not in available():
        raise UsageError(
            f"native kernels {name!r} are not available here; choose one of {', '.join(available())}"
        )
    return lib.rk_dispatch(name.encode())


def entries_of(table: Any, kind: str) -> Any:
    """Return a table's ``rk_entries`` for networks described by ``rk_network`` or ``rk_mlp``."""
    return table.network if kind == "rk_network" else table.mlp
