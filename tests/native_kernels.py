"""Native tables for tests: every call runs on the whole team, however small, and none is a timing trial."""

from reptile_np.nn import native


def load(name=None, threads=None):
    """`native.load` with every call on all of its threads."""
    return native.load(name, threads, least_work=0, trials=False)
