"""What a preset says is what runs: statements about the assembled run, each exact.

The pieces are proved elsewhere (``tests/meta``, ``tests/tasks``); these tests hold how they are put together.
"""

import dataclasses

import numpy as np
import pytest

from reptile_np.errors import UsageError
from reptile_np.experiments import episodes as episodes_module
from reptile_np.experiments import runs
from reptile_np.experiments.experiment import Experiment, make_experiment
from reptile_np.experiments.presets import PRESETS, get
from reptile_np.experiments.streams import Streams
from reptile_np.meta.inner_loop import adapt
from reptile_np.nn import models
from reptile_np.nn.ops import NUMPY
from reptile_np.tasks import folder, glyphs, mini_imagenet
from tests.experiments.small import experiment, small
from tests.experiments.wiring import SINE, pixels
from tests.tasks import image_sets
from tests.tasks.image_sets import jpeg

FIXTURES = {
    "omniglot": "omniglot_data",
    "mini-imagenet": "small_mini_imagenet",
    "folder": "own_images",
}


def names(classes):
    return {classes.name(c) for c in range(len(classes))}


def images(classes):
    """The distinct images of all classes, as bytes."""
    return {
        image.tobytes()
        for c in range(len(classes))
        for image in classes.images(c, np.arange(classes.count(c)))
    }


@pytest.fixture(scope="module")
def small_mini_imagenet(tmp_path_factory):
    """Five classes of 20 random images for each of train, val and test, imported."""
    pytest.importorskip("PIL")
    source = tmp_path_factory.mktemp("mini")
    files = {
        f"{split}/{split}{c}/{i}.jpg": jpeg(1000 * s + 100 * c + i)
        for s, split in enumerate(("train", "val", "test"))
        for c in range(5)
        for i in range(20)
    }
    mini_imagenet.import_mini_imagenet(image_sets.write(source, files), source / "cache")
    return source / "cache"


@pytest.fixture(scope="module")
def own_images(tmp_path_factory):
    """Sixteen classes of 16 random images, imported for both presets of a folder of images."""
    pytest.importorskip("PIL")
    source = tmp_path_factory.mktemp("own")
    files = {f"all/{c}/{i}.png": jpeg(100 * c + i, 30, "PNG") for c in range(16) for i in range(16)}
    image_sets.write(source, files)
    folder.import_folder(source / "all", source / "images-5way", size=28, grey=True)
    folder.import_folder(source / "all", source / "images-colour-5way")
    return source


# Which classes


def test_mini_imagenet_and_own_images_are_split_by_their_import_and_not_turned(
    small_mini_imagenet, own_images
):
    made = make_experiment(get("mini-imagenet-5way"), 3, NUMPY, small_mini_imagenet).episodes
    for split, short in (("train", "train"), ("validation", "val"), ("test", "test")):
        assert names(getattr(made, split)) == {f"{short}{c}" for c in range(5)}
    made = make_experiment(get("images-5way"), 3, NUMPY, own_images / "images-5way").episodes
    parts = [names(made.train), names(made.validation), names(made.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 16
    spec = made.preset.evaluation
    validation = images(made.validation)
    assert pixels(made.evaluation(spec, "validation", 0).support[0]) <= validation


def test_a_1_shot_task_of_mini_imagenet_is_fine_tuned_on_batches_of_5_and_a_5_shot_task_on_15(
    small_mini_imagenet,
):
    made = make_experiment(get("mini-imagenet-5way"), 0, NUMPY, small_mini_imagenet).episodes
    for shots, batch in ((1, 5), (5, 15)):
        spec = dataclasses.replace(made.preset.evaluation, shots=shots)
        batches = made.evaluation(spec, "test", 0).batches
        assert {len(x) for x, _ in batches[:1]} == {batch}


def test_images_of_another_size_and_a_missing_folder_are_refused(own_images, tmp_path, monkeypatch):
    with pytest.raises(
        UsageError, match=r"are 28 x 28 x 1, and images-colour.* reads 84 x 84 x 3.*--size 84$"
    ):
        make_experiment(get("images-colour-5way"), 0, NUMPY, own_images / "images-5way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UsageError, match="not imported on this machine; run: reptile-np data folder DIR"):
        make_experiment(get("images-5way"), 0, NUMPY)


def test_own_images_that_were_imported_into_the_cache_folder_are_the_default(
    own_images, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder.import_folder(own_images / "all", size=28, grey=True)
    found, named = (
        make_experiment(get("images-5way"), 0, NUMPY, data).episodes
        for data in (None, own_images / "images-5way")
    )
    assert found.images_sha256 == named.images_sha256


def test_a_split_that_the_data_do_not_have_is_refused_with_those_there_are():
    made = experiment("glyphs-5way")
    with pytest.raises(UsageError, match="'validation': glyphs-5way has none; choose train or test"):
        made.episodes.check_evaluation(made.preset.evaluation, "validation")


def test_glyphs_four_fifths_of_the_classes_are_trained_on_and_the_others_are_the_test_classes():
    made = experiment("glyphs-5way").episodes
    assert (len(made.train), len(made.test)) == (40, 10)
    assert not names(made.train) & names(made.test)
    drawn = glyphs.draw(50, 20, Streams(0).rng("classes"))
    assert images(made.train) | images(made.test) == images(drawn)


def test_omniglot_1200_characters_in_four_rotations_are_trained_on_and_423_upright_ones_are_tested(
    omniglot_data,
):
    made = experiment("omniglot-5way", data=omniglot_data).episodes
    assert (len(made.train), len(made.test)) == (4800, 423)
    upright = {name.partition(" turned by")[0] for name in names(made.train)}
    assert len(upright) == 1200
    assert names(made.train) == {
        f"{name} turned by {angle} degrees" for name in upright for angle in (0, 90, 180, 270)
    }
    assert not upright & names(made.test)
    assert not any("turned" in name for name in names(made.test))


def test_finns_omniglot_is_1100_characters_to_train_on_100_for_validation_and_423_for_test(
    drawings, omniglot_data
):
    made = experiment("maml-omniglot-5way-1shot", data=omniglot_data).episodes
    assert [len(made.train), len(made.validation or ()), len(made.test)] == [1100, 100, 423]
    assert names(made.train) | names(made.validation) | names(made.test) == names(drawings)


@pytest.mark.parametrize("name", ["maml-omniglot-5way-1shot", "omniglot-5way"])
def test_inverted_drawings_are_one_minus_the_drawings_in_every_split(drawings, omniglot_data, name):
    made = experiment(name, "tasks.invert=true", data=omniglot_data).episodes
    numbers = {drawings.name(c): c for c in range(len(drawings))}
    parts = [made.train, made.test] + [made.validation] * (made.validation is not None)
    assert len(parts) == (3 if "maml" in name else 2)
    for part in parts:
        drawn = drawings.images(numbers[part.name(0).partition(" turned by 0")[0]], np.arange(20))
        np.testing.assert_array_equal(part.images(0, np.arange(20)), 1 - drawn)


def test_training_draws_from_the_training_classes_and_evaluation_from_the_test_classes():
    made = experiment("glyphs-5way")
    spec, train, test = made.preset.evaluation, images(made.episodes.train), images(made.episodes.test)
    assert not train & test
    for i in range(20):
        assert all(pixels(x) <= train for x, _ in made.episodes.training(i, 0))
        tested = made.episodes.evaluation(spec, "test", i)
        assert pixels(tested.support[0]) | pixels(tested.query[0]) <= test
        seen = made.episodes.evaluation(spec, "train", i)
        assert pixels(seen.support[0]) | pixels(seen.query[0]) <= train


def spied_evaluations(monkeypatch):
    """The splits that a run asks for."""
    asked = []
    original = episodes_module.FewShotEpisodes.evaluation

    def spy(self, spec, split, i, at=None):
        asked.append((split, i))
        return original(self, spec, split, i, at)

    monkeypatch.setattr(episodes_module.FewShotEpisodes, "evaluation", spy)
    return asked


def test_a_run_and_an_evaluation_report_the_test_split_unless_asked_for_the_other(tmp_path, monkeypatch):
    asked = spied_evaluations(monkeypatch)
    runs.train(small("glyphs-5way"), 0, NUMPY, out=tmp_path / "run", quiet=True)
    assert asked == [("test", i) for i in range(3)] * 2
    asked.clear()
    runs.evaluate(tmp_path / "run", NUMPY, tasks=2, quiet=True)
    runs.evaluate(tmp_path / "run", NUMPY, tasks=2, split="train", quiet=True)
    assert asked == [("test", 0), ("test", 1), ("train", 0), ("train", 1)]


# Which network, optimisers, rates


@pytest.mark.parametrize("name", PRESETS)
def test_the_network_is_the_one_of_the_preset_s_data(name, request):
    preset = get(name)
    fixture = FIXTURES.get(preset.tasks.source)
    data = request.getfixturevalue(fixture) if fixture else None
    if preset.tasks.source == "folder":
        data = data / preset.name
    made = make_experiment(preset, 0, NUMPY, data)
    if name in SINE:
        expected = models.sine_mlp()
    elif name.startswith("mini-imagenet-v1"):
        expected = models.mini_imagenet_cnn(5, order="conv-pool-norm")
    elif name in ("mini-imagenet-5way", "images-colour-5way"):
        expected = models.mini_imagenet_cnn(5)
    elif preset.network == "finn-mini-imagenet":
        expected = models.finn_mini_imagenet_cnn(5)
    elif preset.network == "finn-omniglot":
        expected = models.finn_omniglot_cnn(preset.tasks.ways)
    else:
        expected = models.omniglot_cnn(preset.tasks.ways, 32 if name == "glyphs-5way" else 64)
    assert made.model == expected
    init = expected.init(Streams(0).rng("init"))
    np.testing.assert_array_equal(made.start().phi, init)
    assert made.start().done == 0


def test_an_accuracy_is_the_mean_over_tasks_of_the_queries_classified_correctly():
    """1-shot with 2 queries of each class: 10 queries are counted, not the 5 images of the support set."""
    made = experiment("glyphs-5way", "evaluation.tasks=6", "evaluation.queries=2", "evaluation.steps=20")
    start = made.start()
    right = {"transductive": 0, "non_transductive": 0}
    for i in range(6):
        episode = made.episodes.evaluation(made.preset.evaluation, "test", i)
        tuned = adapt(made.model, made.inner, start.phi, episode.batches, start.inner_state).phis[-1]
        (support, _), (x, y) = episode.support, episode.query
        assert (len(support), len(x)) == (5, 10)
        right["transductive"] += int((made.model.predict(tuned, x).argmax(1) == y).sum())
        for image, label in zip(x, y, strict=True):
            logits = made.model.predict(tuned, np.concatenate([support, image[np.newaxis]]))
            right["non_transductive"] += int(logits[-1].argmax() == label)
    accuracy = made.evaluate(start).to_json()["accuracy"]
    for mode, count in right.items():
        assert accuracy[mode]["mean"] == pytest.approx(count / 60, abs=1e-12)


def test_the_result_reports_the_trained_point_and_under_its_own_keys_the_untrained_one(tmp_path):
    for name, settings in (("glyphs-5way", ["filters=8", "outer.steps=20"]), ("sine-reptile", [])):
        made = experiment(name, *settings)
        last = list(made.outer_steps(made.start()))[-1]
        result = runs.train(made.preset, 0, NUMPY, out=tmp_path / name, quiet=True)
        assert result.pop("outer_steps") == made.preset.outer.steps
        assert result.pop("seconds") > 0
        trained, untrained = made.evaluate(last), made.evaluate(made.start())
        assert result == {**trained.headline(""), **untrained.headline("_untrained")}
        assert trained.to_json() != untrained.to_json()
        values = runs.evaluate(tmp_path / name, NUMPY, tasks=3, quiet=True)
        assert {key: values[key] for key in trained.to_json()} == trained.to_json()


def test_an_evaluation_uses_the_steps_batch_and_shots_of_the_preset_unless_others_are_asked_for(
    tmp_path, monkeypatch
):
    preset = small("glyphs-5way", "evaluation.shots=2", "evaluation.batch=3")
    runs.train(preset, 0, NUMPY, out=tmp_path / "run", quiet=True)
    seen = []
    original = Experiment.evaluate

    def spy(self, point, spec=None, *args, **kwargs):
        seen.append((spec or self.preset.evaluation, point.done))
        return original(self, point, spec, *args, **kwargs)

    monkeypatch.setattr(Experiment, "evaluate", spy)
    assert runs.evaluate(tmp_path / "run", NUMPY, tasks=1, quiet=True)["shots"] == 2
    assert runs.evaluate(tmp_path / "run", NUMPY, tasks=1, shots=4, quiet=True)["shots"] == 4
    assert [(spec.shots, spec.batch, spec.steps, spec.tasks, done) for spec, done in seen] == [
        (2, 3, 4, 1, 4),
        (4, 3, 4, 1, 4),
    ]
