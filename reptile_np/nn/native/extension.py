"""The C extension: the only file that imports it, and the only one that names the entries of its tables.

Verified by ``tests/nn/native/test_loading.py``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from reptile_np.errors import UsageError

__all__ = ["VARIANTS", "Entries", "available", "entries_of", "ffi", "lib", "table_of"]

try:
    from reptile_np.nn.native._kernels import ffi, lib
except ImportError:  # installed without a C compiler
    ffi = lib = None

VARIANTS = ("avx512", "avx2", "neon", "portable", "portable16")
"""Every instruction set that kernels are written for, best first.  portable16 has the block shape of avx512
in portable code: it is slow, and lets every machine test that block shape."""


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
        If this machine cannot run it.
    """
    if name not in available():
        raise UsageError(
            f"native kernels {name!r} are not available here; choose one of {', '.join(available())}"
        )
    return lib.rk_dispatch(name.encode())


class Entries(NamedTuple):
    """The C functions for one kind of network; ``csrc/interface.h`` says what each does."""

    parameters: Any
    plan_size: Any
    saved_size: Any
    plan: Any
    predict: Any
    loss_and_grad: Any
    hvp: Any
    loop: Any
    update: Any


def entries_of(table: Any, kind: str) -> Entries:
    """Return a table's functions for networks described by ``rk_network`` or ``rk_mlp``."""
    if kind == "rk_network":
        return Entries(
            table.network_parameters,
            table.network_size,
            table.network_point,
            table.network_plan,
            table.network_predict,
            table.network_loss_and_grad,
            table.network_hvp,
            table.network_loop,
            table.update,
        )
    return Entries(
        table.mlp_parameters,
        table.mlp_size,
        table.mlp_point,
        table.mlp_plan,
        table.mlp_predict,
        table.mlp_loss_and_grad,
        table.mlp_hvp,
        table.mlp_loop,
        table.update,
    )
