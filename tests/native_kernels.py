"""Native tables for tests: every call runs on the whole team, however small, and none is a timing trial."""

from reptile_np.nn import native

VARIANTS = tuple(
    isa for isa in native.available() if not (isa == "portable16" and "avx512" in native.available())
)
"""The instruction sets on which tests run whole networks.  portable16 has the lanes of avx512: it takes the
place of avx512 where that cannot run, and single functions are tested on it everywhere."""


def load(name=None, threads=None):
    """`native.load` with every call on all of its threads."""
    return native.load(name, threads, least_work=0, trials=False)
