"""The MAML rows of the tables: the settings of Finn's program, and what they do."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from reptile_np.errors import UsageError
from reptile_np.experiments import episodes
from reptile_np.experiments.experiment import make_experiment
from reptile_np.experiments.limits import check_settings
from reptile_np.experiments.presets import get
from reptile_np.experiments.presets_finn import FINN
from reptile_np.meta.inner_loop import adapt
from reptile_np.meta.optimizers import Adam
from reptile_np.nn.ops import NUMPY
from reptile_np.tasks import few_shot

# name: ways, shots, rate (of N times the mean loss, as in Finn's program), steps in training and at test,
# meta-batch, queries in training; the published transductive accuracy of MAML and of first-order MAML
ROWS = {
    "omniglot-5way-1shot": (5, 1, 0.4, 1, 3, 32, 1, (98.7, 0.4), (98.3, 0.5)),
    "omniglot-5way-5shot": (5, 5, 0.4, 1, 3, 32, 5, (99.9, 0.1), (99.2, 0.2)),
    "omniglot-20way-1shot": (20, 1, 0.1, 5, 5, 16, 1, (95.8, 0.3), (89.4, 0.5)),
    "omniglot-20way-5shot": (20, 5, 0.1, 5, 5, 16, 5, (98.9, 0.2), (97.9, 0.1)),
    "mini-imagenet-1shot": (5, 1, 0.01, 5, 10, 4, 15, (48.70, 1.84), (48.07, 1.75)),
    "mini-imagenet-5shot": (5, 5, 0.01, 5, 10, 2, 15, (63.11, 0.92), (63.15, 0.91)),
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("rule", ["maml", "fomaml"])
def test_a_preset_has_the_values_of_finns_program(rule, name):
    p = get(f"{rule}-{name}")
    ways, shots, rate, steps, test_steps, meta_batch, queries, *published = ROWS[name]
    assert p.algorithm == rule
    assert (p.tasks.ways, p.tasks.shots, p.tasks.queries) == (ways, shots, queries)
    assert p.inner.learning_rate == pytest.approx(rate * ways)
    assert (p.inner.optimizer, p.inner.steps, p.inner.batch) == ("sgd", steps, ways * shots)
    assert (p.inner.fixed, p.outer.meta_batch) == ("*/beta", meta_batch)
    assert (p.tasks.replacement, p.tasks.tail_shots) == (False, 0)
    assert (p.outer.optimizer, p.outer.rate, p.outer.final_rate, p.outer.steps) == (
        "adam",
        1e-3,
        1e-3,
        60_000,
    )
    assert (p.outer.beta1, Adam(1).beta2, Adam(1).epsilon) == (0.9, 0.999, 1e-8)  # TensorFlow's defaults
    evaluation = p.evaluation
    assert (evaluation.steps, evaluation.batch, evaluation.queries) == (test_steps, ways * shots, shots)
    assert (p.tasks.turn, p.tasks.invert, p.tasks.train_classes) == (
        (False, False, 0) if "mini" in name else (True, True, 1100)
    )
    ((cell, numbers),) = p.published.items()
    assert (cell, tuple(numbers)) == ((shots, "transductive"), published[rule == "fomaml"])


@pytest.mark.parametrize("name", [name for name in ROWS if "mini" in name])
@pytest.mark.parametrize("rule", ["maml", "fomaml"])
def test_the_bound_on_the_outer_gradient_is_10_for_a_loss_that_is_the_sum_over_queries_divided_by_shots(
    rule, name
):
    p = get(f"{rule}-{name}")
    queries = p.tasks.ways * p.tasks.queries
    assert p.outer.clip * queries / p.tasks.shots == pytest.approx(10)


@pytest.mark.parametrize("name", [name for name in ROWS if "omniglot" in name])
@pytest.mark.parametrize("rule", ["maml", "fomaml"])
def test_omniglot_has_no_bound_on_the_outer_gradient(rule, name):
    assert get(f"{rule}-{name}").outer.clip == 0


def on_glyphs(name, **changes):
    """The preset on glyphs, which need no files, three filters wide."""
    preset = get(name)
    tasks = dataclasses.replace(preset.tasks, source="glyphs", classes=120, invert=False, train_classes=0)
    outer = dataclasses.replace(preset.outer, steps=2, meta_batch=2)
    evaluation = dataclasses.replace(preset.evaluation, tasks=2)
    return dataclasses.replace(preset, tasks=tasks, outer=outer, evaluation=evaluation, filters=3, **changes)


def made(preset):
    return make_experiment(preset, 0, NUMPY, None)


def test_the_classes_of_training_and_test_tasks_are_turned(monkeypatch):
    turns = []

    def sample_task(*args, turn, **more):
        turns.append(turn)
        return few_shot.sample_task(*args, turn=turn, **more)

    monkeypatch.setattr(
        episodes, "few_shot", SimpleNamespace(**{**vars(few_shot), "sample_task": sample_task})
    )
    for name, turn in (("maml-omniglot-5way-1shot", True), ("omniglot-v1-5way-1shot", False)):
        data = made(on_glyphs(name)).episodes
        turns.clear()
        data.training(0, 0)
        data.evaluation(get(name).evaluation, "test", 0)
        assert turns == [turn, turn]


@pytest.mark.parametrize("rule", ["maml", "fomaml"])
def test_beta_changes_in_the_outer_loop_and_not_in_an_inner_loop(rule):
    e = made(on_glyphs(f"{rule}-omniglot-5way-1shot"))
    views = e.model.layout.views
    *batches, query = e.episodes.training(0, 0)
    assert len(batches) == 1
    assert len(query[1]) == 5
    start, (*_, last) = e.start(), e.outer_steps(e.start())
    phi = e.inner.update(e.model.loss_and_grad(start.phi, batches[0])[1], (), start.phi)[0]
    for name in views(phi):
        if name.endswith("beta"):
            np.testing.assert_array_equal(views(phi)[name], views(start.phi)[name])
            assert (views(last.phi)[name] != views(start.phi)[name]).any()
    assert (views(phi)["dense/kernel"] != views(start.phi)["dense/kernel"]).any()


def test_first_order_mamls_direction_is_the_querys_gradient():
    e = made(on_glyphs("fomaml-omniglot-20way-1shot"))
    t = adapt(e.model, e.inner, e.start().phi, e.episodes.training(0, 0))
    assert len(t.grads) == 6
    np.testing.assert_array_equal(e.meta_gradient(t), t.grads[-1])


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"algorithm": "reptile"}, "tasks.queries: needs algorithm maml or fomaml, and tasks.tail_shots=0"),
        (
            {"network": "finn-mini-imagenet"},
            "network=finn-mini-imagenet: reads images of 84 x 84 x 3; set network=conv",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes, line):
    with pytest.raises(UsageError) as error:
        check_settings(on_glyphs("maml-omniglot-5way-1shot", **changes))
    assert str(error.value) == line


def test_there_are_six_columns_and_two_rows():
    assert {p.name for p in FINN} == {f"{rule}-{name}" for rule in ("maml", "fomaml") for name in ROWS}


@pytest.mark.parametrize("rule", ["maml", "fomaml"])
@pytest.mark.parametrize("shots", [1, 5])
def test_more_images_take_more_hours_and_exact_maml_more_than_first_order(rule, shots):
    def hours(rule, ways, shots):
        return get(f"{rule}-omniglot-{ways}way-{shots}shot").hours

    assert hours(rule, 5, shots) < hours(rule, 20, shots)
    assert hours(rule, 5, 1) < hours(rule, 5, 5)
    assert hours(rule, 20, 1) < hours(rule, 20, 5)
    assert all(hours("fomaml", ways, shots) < hours("maml", ways, shots) for ways in (5, 20))
