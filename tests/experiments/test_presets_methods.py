"""The comparison at the same number of gradients: what is the same, what differs, what a budget counts."""

import dataclasses

import numpy as np
import pytest

from reptile_np.experiments.experiment import KEEP, make_experiment
from reptile_np.experiments.presets import get
from reptile_np.experiments.presets_methods import GRADIENTS, METHODS
from reptile_np.experiments.targets import TARGETS
from reptile_np.meta.inner_loop import Linearization
from reptile_np.nn.model import Model
from reptile_np.nn.ops import NUMPY

NAMES = [preset.name for preset in METHODS]


def on_glyphs(name, **changes):
    """One outer step of the preset on glyphs, which need no files, three filters wide."""
    preset = get(name)
    if preset.tasks.source != "sine":
        tasks = dataclasses.replace(
            preset.tasks, source="glyphs", classes=200, images=40, invert=False, train_classes=0, **changes
        )
        preset = dataclasses.replace(preset, tasks=tasks, filters=3)
    return dataclasses.replace(preset, outer=dataclasses.replace(preset.outer, steps=1))


def made(preset):
    return make_experiment(preset, 0, NUMPY, None)


def test_each_of_the_four_algorithms_is_one_method():
    assert [preset.algorithm for preset in METHODS] == list(KEEP)
    assert TARGETS["methods"].presets == tuple(NAMES)


def test_the_methods_differ_in_nothing_but_the_algorithm_the_outer_steps_and_joint_trainings_minibatch():
    first, *others = METHODS
    for other in others:
        inner = first.inner if other.algorithm == "joint" else other.inner
        outer = dataclasses.replace(other.outer, steps=first.outer.steps)
        same = dataclasses.replace(
            other, name=first.name, algorithm=first.algorithm, inner=inner, outer=outer
        )
        assert same == first


@pytest.mark.parametrize("preset", METHODS, ids=NAMES)
def test_each_method_has_the_same_number_of_gradients(preset):
    assert preset.gradients == GRADIENTS


def test_every_method_gets_the_same_images_of_a_training_task_each_of_them_once():
    seen = []
    for name in NAMES:
        batches = made(on_glyphs(name)).episodes.training(3, 1)
        x = np.concatenate([x for x, _ in batches])
        images = [image.tobytes() for image in x]
        assert len(images) == len(set(images)) == 50
        seen.append(set(images))
    assert all(images == seen[0] for images in seen)


def test_every_method_is_evaluated_on_one_and_five_shots():
    for preset in METHODS:
        evaluations = TARGETS["methods"].evaluations(preset)
        assert [(spec.shots, spec.minibatch, spec.steps) for spec in evaluations] == [(1, 5, 50), (5, 10, 50)]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        *((name, {}) for name in NAMES),
        ("figure3-g3", {"shots": 18, "tail_shots": 3}),
        ("omniglot-5way", {}),
        ("maml-omniglot-5way-5shot", {}),
        ("maml-omniglot-20way-1shot", {}),
        ("fomaml-omniglot-20way-1shot", {}),
        ("sine-maml", {}),
    ],
)
def test_the_gradients_of_a_preset_are_those_that_its_run_computes(name, changes, monkeypatch):
    """A gradient counts as its examples, a Hessian-vector product as twice its examples."""
    counted = 0
    loss_and_grad, linearize = Model.loss_and_grad, Model.linearize

    def counting_gradient(model, phi, batch):
        nonlocal counted
        counted += len(batch[0])
        return loss_and_grad(model, phi, batch)

    def counting_linearization(model, phi, batch):
        nonlocal counted
        counted += len(batch[0])
        loss, grad, hvp = linearize(model, phi, batch)

        def counting_product(v):
            nonlocal counted
            counted += 2 * len(batch[0])
            return hvp(v)

        return Linearization(loss, grad, counting_product)

    monkeypatch.setattr(Model, "loss_and_grad", counting_gradient)
    monkeypatch.setattr(Model, "linearize", counting_linearization)
    e = made(on_glyphs(name, **changes))
    assert len(list(e.outer_steps(e.start()))) == 1
    assert counted == e.preset.gradients
