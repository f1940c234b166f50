"""``train --threads N`` with SGD inside: N tasks of a meta-batch at a time, and bitwise the same result."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from reptile_np.errors import UsageError
from reptile_np.experiments.backend import choose_ops
from reptile_np.experiments.experiment import make_experiment
from reptile_np.nn.ops import NUMPY
from tests import native_kernels
from tests.experiments.small import small

SETTINGS = ["outer.meta_batch=5", "outer.steps=2", "inner.optimizer=sgd", "inner.learning_rate=0.01"]
RULES = {
    "reptile": ["algorithm=reptile"],
    "fomaml": ["algorithm=fomaml"],
    "fomaml with queries": ["algorithm=fomaml", "tasks.queries=2"],
    "maml": ["algorithm=maml"],
    "maml with queries, β fixed": ["algorithm=maml", "tasks.queries=2", "inner.fixed=*/beta"],
    "joint": ["algorithm=joint", "inner.steps=1"],
}
KERNELS = ["numpy", *(f"native-{isa}" for isa in native_kernels.VARIANTS)]


def made(*settings, ops="numpy", threads=1):
    table = dataclasses.replace(NUMPY, threads=threads) if ops == "numpy" else choose_ops(ops, threads)
    return make_experiment(small("glyphs-5way", *SETTINGS, *settings), 0, table, None)


def last(e):
    *_, step = e.outer_steps(e.start())
    return step


@pytest.mark.parametrize("ops", KERNELS)
@pytest.mark.parametrize("rule", RULES)
def test_the_run_is_bitwise_the_same_for_any_number_of_threads(rule, ops):
    expected = last(made(*RULES[rule], ops=ops))
    for threads in (2, 3):
        step = last(made(*RULES[rule], ops=ops, threads=threads))
        np.testing.assert_array_equal(step.phi, expected.phi)
        assert (step.done, step.first_loss, step.last_loss) == (
            expected.done,
            expected.first_loss,
            expected.last_loss,
        )


def test_as_many_tasks_run_at_a_time_as_there_are_threads():
    """Three tasks wait for each other: fewer at a time would not end."""
    e = made("outer.meta_batch=3", "outer.steps=1", threads=3)
    barrier, sampled = threading.Barrier(3), e.episodes.training

    class Waiting:
        def training(self, i, j):
            barrier.wait(timeout=60)
            return sampled(i, j)

    last(dataclasses.replace(e, episodes=Waiting()))


@pytest.mark.parametrize(
    ("settings", "threads", "expected"),
    [
        ([], 1, 1),
        ([], 4, 4),
        ([], 8, 5),  # tasks
        (["outer.meta_batch=1"], 4, 1),
        (["inner.optimizer=adam"], 4, 1),  # its state goes on from task to task
    ],
)
def test_only_tasks_of_sgd_run_at_the_same_time_and_no_more_than_there_are(settings, threads, expected):
    assert made(*settings, threads=threads).task_threads == expected


@pytest.mark.parametrize("what", ["evaluate", "meta_train"])
def test_work_that_is_shared_by_an_executor_has_kernels_of_one_thread(monkeypatch, what):
    """Else N workers would run N threads each."""

    def refuse(model, *args, **more):
        raise UsageError(f"{model.ops.threads} threads")

    monkeypatch.setattr(f"reptile_np.experiments.experiment.{what}", refuse)
    ops = dataclasses.replace(NUMPY, threads=4)
    one = make_experiment(small("glyphs-5way", "inner.optimizer=sgd"), 0, ops)
    with ThreadPoolExecutor(2) as executor:
        works = {
            "evaluate": lambda: one.evaluate(one.start(), executor=executor),
            "meta_train": lambda: list(one.outer_steps(one.start())),
        }
        with pytest.raises(UsageError, match=r"^1 threads$"):
            works[what]()


def test_tasks_of_sine_waves_run_one_after_another():
    preset = small("sine-maml", "outer.meta_batch=4")
    assert make_experiment(preset, 0, dataclasses.replace(NUMPY, threads=4), None).task_threads == 1


def test_a_task_that_diverges_in_a_thread_is_reported_in_the_same_line():
    lines = []
    for threads in (1, 3):
        with pytest.raises(UsageError) as error:
            last(made("inner.learning_rate=1e30", threads=threads))
        lines.append(str(error.value))
    assert lines[0] == lines[1]
