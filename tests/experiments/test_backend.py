"""Choosing kernels by name."""

import pytest

from reptile_np.errors import UsageError
from reptile_np.experiments.backend import choose_ops
from reptile_np.nn import native
from reptile_np.nn.native import extension
from reptile_np.nn.native.threads import MOST_THREADS
from reptile_np.nn.ops import NUMPY


def test_numpy_is_the_reference_table():
    assert choose_ops("numpy") is NUMPY


def test_auto_is_the_best_there_is():
    best = native.available()
    assert choose_ops("auto").name == (f"native-{best[0]}" if best else "numpy")


@pytest.mark.parametrize("isa", native.available())
def test_a_variant_can_be_named(isa):
    ops = choose_ops(f"native-{isa}", threads=2)
    assert (ops.name, ops.threads) == (f"native-{isa}", 2)


def test_without_a_compiler_auto_is_numpy_and_native_says_what_to_do(monkeypatch):
    monkeypatch.setattr(extension, "lib", None)
    assert choose_ops("auto") is NUMPY
    with pytest.raises(UsageError, match="compiler"):
        choose_ops("native")


@pytest.mark.parametrize("name", ["cuda", "native-vax", "", None])
def test_an_unknown_table_is_refused(name):
    with pytest.raises(UsageError):
        choose_ops(name)


@pytest.mark.parametrize("name", ["auto", "numpy", "native"])
@pytest.mark.parametrize("threads", [0, MOST_THREADS + 1, "2", 1.5, True])
def test_a_number_of_threads_that_no_table_takes_is_refused(name, threads):
    with pytest.raises(UsageError, match=f"1 to {MOST_THREADS}"):
        choose_ops(name, threads)
