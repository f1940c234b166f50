"""Native kernels: ``model.with_ops(native.load())`` computes a network in C (``csrc/``).

The package's files, in reading order: ``installation`` (why there may be no kernels), ``extension`` (the C
module), ``threads``, ``memory``, ``vector_pool``, ``shapes``, ``maps`` (single convolutions), ``matching``
(which networks C computes whole), ``calls``, ``optimizers``, ``networks``, ``peak`` (the processor's speed).

Single convolutions are exact on small integers; the layers of a whole network are not, if feature maps at
stride 1 use Winograd tiles of 4 × 4 outputs: their rounding is bounded.  A thread that calls the kernels
needs 1 MB of stack.  Python's threads have more, unless `threading.stack_size` is set to less or the C
library is musl (Alpine Linux): there, set ``threading.stack_size(1 << 20)`` before threads that call the
kernels are started.

Verified by ``tests/nn/native/``.
"""

from __future__ import annotations

import os

from reptile_np.errors import UsageError
from reptile_np.nn.native.extension import VARIANTS, available
from reptile_np.nn.native.installation import explain_absence
from reptile_np.nn.native.maps import Kernels
from reptile_np.nn.native.networks import NativeOps, native_ops
from reptile_np.nn.native.peak import fma_gflops
from reptile_np.nn.native.threads import LEAST_WORK, Team, thread_count

__all__ = ["VARIANTS", "NativeOps", "available", "explain_absence", "fma_gflops", "load"]


def load(
    name: str | None = None,
    threads: int | None = None,
    *,
    least_work: int = LEAST_WORK,
    trials: bool = True,
) -> NativeOps:
    """Return the NumPy table with convolutions, and whole networks that match, replaced by native kernels.

    Single matrix products stay NumPy's: BLAS computes them faster.

    Parameters
    ----------
    name
        One of `available`.  Default: the environment's ``REPTILE_NP_OPS``, else the best one here.
    threads
        How many threads may share a call, 1 to 64.  Default: the environment's ``REPTILE_NP_THREADS``, else
        the number of cores this process may run on.
    least_work
        Calls of fewer multiply-adds run on one thread.
    trials
        Whether whole networks time one thread against all of them, and use the faster; else all are used.

    Raises
    ------
    UsageError
        If the kernels were not built, this machine lacks `name`, or `threads` is out of range.
    """
    names = available()
    if not names:
        raise UsageError(explain_absence())
    if name is None:
        name = os.environ.get("REPTILE_NP_OPS") or names[0]
        if name not in names:
            raise UsageError(f"REPTILE_NP_OPS is {name!r}; choose one of {', '.join(names)}")
    return native_ops(Kernels(name, Team(thread_count(threads), least_work, trials)))
