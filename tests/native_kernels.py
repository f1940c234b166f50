"""Native tables for tests: every call runs on the whole team, however small, and none is a timing trial."""

from reptile_np.nn import native

AVAILABLE = native.available()
VARIANTS = tuple(isa for isa in AVAILABLE if isa != "portable16" or "avx512" not in AVAILABLE)
"""The instruction sets on which tests run whole networks.  portable16, if the extension was built with it,
has the lanes of avx512 and takes its place where that cannot run; single functions are tested on both."""


def load(name=None, threads=None):
    """`native.load` with every call on all of its threads."""
    return native.load(name, threads, least_work=0, trials=False)
