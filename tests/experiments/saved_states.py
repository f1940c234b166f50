"""States some steps into a run, their checkpoints, and these files with arrays changed."""

import numpy as np

from reptile_np.experiments.checkpoints import NEWEST, _checksum, save_step
from reptile_np.meta.training import Step, begin

RUN = "5" * 64


def some_step(rng, inner, outer, n=50):
    """Return a state some steps into a run."""
    phi = rng.standard_normal(n).astype(np.float32)
    step = begin(phi, inner, outer)
    for _ in range(3):
        grad = rng.standard_normal(n).astype(np.float32)
        _, inner_state = inner.update(grad, step.inner_state, phi)
        _, outer_state = outer.update(grad, step.outer_state, phi)
        step = Step(step.done + 1, phi, inner_state, outer_state)
    return step


def assert_same(a, b):
    assert a.done == b.done
    np.testing.assert_array_equal(a.phi, b.phi)
    for one, other in ((a.inner_state, b.inner_state), (a.outer_state, b.outer_state)):
        assert type(one) is type(other)
        for x, y in zip(one, other, strict=True):
            assert type(x) is type(y)
            np.testing.assert_array_equal(x, y)


def saved(folder, step):
    save_step(folder, step, RUN)
    return folder / NEWEST


def rewritten(path, **changes):
    """Change arrays of a checkpoint without its checksum; None removes one."""
    with np.load(path) as file:
        arrays = {**file, **changes}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


def with_its_checksum(path):
    with np.load(path, allow_pickle=True) as file:
        arrays = {name: file[name] for name in file.files if name != "sha256"}
    content = {name: array for name, array in arrays.items() if name != "format"}
    np.savez(path, **arrays, sha256=np.array(_checksum(content)))
