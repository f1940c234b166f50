"""A machine with other work is found out by its load, or by medians far above the minima."""

import io
import platform

import pytest

from reptile_np.bench import machine


def rows(*spreads):
    return [{"ms_min": 2.0, "ms_median": 2.0 * spread} for spread in spreads]


@pytest.mark.parametrize(
    ("spreads", "threads", "load", "words"),
    [
        ((1.1, 1.2, 9.0), 1, 0.2, []),  # one row of many says nothing
        ((1.1, 1.2, 9.0), 1, 1.4, []),  # one core is free
        ((1.1, 1.2, 9.0), 1, 1.6, ["1.6 processes"]),
        ((1.1, 1.2, 9.0), 2, 0.6, ["0.6 processes"]),  # both cores are wanted
        ((1.32, 1.32), 2, 0.0, []),
        ((1.34, 1.34), 2, 0.0, ["1.34 times the minima"]),
        ((3.0, 50.0, 1.0), 1, 0.0, ["3.00 times the minima"]),
        ((3.0, 50.0, 1.0), 2, 5.0, ["3.00 times the minima", "5.0 processes"]),
        ((1.1,), 2, None, []),  # a system without a count
        ((), 2, 0.0, []),
    ],
)
def test_why_figures_are_not_to_be_believed(monkeypatch, spreads, threads, load, words):
    monkeypatch.setattr(machine, "cores", lambda: 2)
    reason = machine.why_busy(rows(*spreads), threads, load)
    assert all(word in reason for word in words)
    assert bool(reason) == bool(words)
    assert len(reason.splitlines()) == bool(words)


def test_the_load_is_that_of_the_last_minute(monkeypatch):
    monkeypatch.setattr(machine.os, "getloadavg", lambda: (1.0, 2.0, 3.0), raising=False)
    assert machine.load() == 1.0


def test_the_machine_is_described():
    about = machine.machine()
    assert {"processor", "cores", "system", "python", "numpy", "blas"} == set(about)
    assert all(about.values())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (
            "model name : X\ncpu family : 26\nmodel : 2\nflags : fma avx2\n",
            "X (family 26 model 2; avx2 fma)",
        ),
        ("processor : 0\nFeatures : fp asimd\n", f"{platform.machine()} (asimd)"),
        ("processor : 0\n", platform.machine()),
        ("", platform.processor() or platform.machine()),  # as on a system that has no such file
    ],
)
def test_the_processor_is_named_on_x86_on_arm_and_elsewhere(monkeypatch, text, name):
    monkeypatch.setattr("reptile_np.machine.open", lambda *path, **how: io.StringIO(text), raising=False)
    assert machine._processor() == name
