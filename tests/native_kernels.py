"""Native tables for tests: every call runs on the whole team, however small, and none is a timing trial."""

from reptile_np.nn import native

AVAILABLE = native.available()
VARIANTS = tuple(isa for isa in AVAILABLE if isa != "portable16" or "avx512" not in AVAILABLE)
"""The instruction sets on which tests run whole networks.  portable16 has the lanes of avx512: it takes the
place of avx512 where that cannot run, and single functions are tested on it everywhere."""


def load(name=None, threads=None):
    """`native.load` with every call on all of its threads."""
    return native.load(name, threads, least_work=0, trials=False)
