"""`reptile_np.load`: a run, or released weights, as a classifier whose accuracy is that of an evaluation."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import reptile_np
from reptile_np.errors import UsageError
from reptile_np.experiments import runs
from reptile_np.experiments.backend import choose_ops
from reptile_np.experiments.experiment import make_experiment
from reptile_np.experiments.run_directory import RunDirectory
from reptile_np.experiments.streams import Streams
from reptile_np.meta.evaluation import MODES
from reptile_np.nn.ops import NUMPY
from reptile_np.pretrained import learner_of, load_learner, saved_run
from reptile_np.pretrained.weights import parts
from reptile_np.tasks.few_shot import sample_task
from tests.experiments.small import small

OPS = choose_ops(threads=1)


def test_the_name_of_released_weights_without_its_beginning_is_answered_with_the_whole_name(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"^glyphs-5way: no such folder; .* pretrained:glyphs-5way$"):
        saved_run("glyphs-5way")
    (tmp_path / "glyphs-5way").mkdir()
    assert saved_run("glyphs-5way") == RunDirectory(Path("glyphs-5way"))


@pytest.mark.parametrize("source", [None, b"runs/photos", 3, ["runs/photos"]])
def test_what_is_no_path_is_refused_in_one_line(source):
    with pytest.raises(UsageError, match=f"^{re.escape(repr(source))} is not a path; give a run's directory"):
        load_learner(source)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "glyphs"
    preset = small("glyphs-5way", "outer.steps=40", "evaluation.tasks=40", "filters=8")
    runs.train(preset, 3, NUMPY, out=path, quiet=True)
    return path


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    """A run whose inner loop keeps β as it is, and whose minibatches of one-shot tasks have 3 images."""
    path = tmp_path_factory.mktemp("runs") / "masked"
    sgd = (
        "inner.optimizer=sgd",
        "inner.learning_rate=0.03",
        "inner.fixed=*/beta",
        "evaluation.one_shot_batch=3",
    )
    preset = small("glyphs-5way", *sgd, "outer.steps=40", "evaluation.shots=1", "filters=8")
    runs.train(preset, 3, NUMPY, out=path, quiet=True)
    return path


@pytest.mark.parametrize("source", ["run", "masked", "pretrained:glyphs-5way"])
def test_on_the_tasks_of_an_evaluation_its_accuracy_equals_the_evaluation_s(run, masked, source):
    saved = saved_run({"run": run, "masked": masked}.get(source, source))
    preset, seed = saved.config()
    spec = replace(preset.evaluation, tasks=60)
    experiment = make_experiment(preset, seed, OPS)
    scores = experiment.evaluate(saved.load(experiment.start()), spec)
    learner = learner_of(saved, OPS)
    right = {mode: [] for mode in MODES}
    for i in range(spec.tasks):
        rng = Streams(seed).rng("evaluation", i)
        task = sample_task(rng, experiment.episodes.test, preset.tasks.ways, spec.shots)
        learner.set_params(seed=rng).fit(*task.support)  # rng is where the evaluation draws its minibatches
        x, y = task.query
        for mode in MODES:
            labels = learner.predict(x, transductive=mode == "transductive")
            right[mode].append((labels == y).mean())
    for mode in MODES:
        np.testing.assert_array_equal(right[mode], scores.accuracy[mode].fractions)


def test_a_run_of_a_preset_with_inverted_images_is_loaded_with_inverted_images(tmp_path):
    preset = small("maml-omniglot-5way-1shot", "filters=4")
    run, untrained = RunDirectory(tmp_path), parts(preset)[2]
    run.write_config(preset, 0)
    run.save(untrained, [])
    learner, x = reptile_np.load(tmp_path), np.random.default_rng(0).random((5, 28, 28, 1), np.float32)
    assert learner.invert
    phi = learner.fit(x, np.arange(5)).phi_
    np.testing.assert_array_equal(learner.set_params(invert=False).fit(1 - x, np.arange(5)).phi_, phi)
    before, after = (learner.model.layout.views(p)["norm1/beta"] for p in (untrained.phi, phi))
    np.testing.assert_array_equal(before, after)


def test_a_run_needs_no_data_set(run, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    learner = reptile_np.load(run)
    assert (learner.steps, learner.batch) == (4, 5)
    assert reptile_np.load(str(run)).phi.shape == learner.phi.shape


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("/absent", "no run here"),
        ("", "the name of the run is empty"),
        ("~nosuchuser/x", "~nosuchuser/x: there is no such user"),
        ("pretrained:absent", "no released weights"),
        ("pretrained:sine-reptile", "sine-reptile: was trained to predict sine waves"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(source, message):
    with pytest.raises(UsageError, match=message) as error:
        reptile_np.load(source)
    assert "\n" not in str(error.value)
