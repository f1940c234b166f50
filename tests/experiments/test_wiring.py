"""What a preset says is what runs: statements about the assembled run, each exact.

The pieces are proved elsewhere (``tests/meta``, ``tests/tasks``); these tests hold how they are put together.
"""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from reptile_np.errors import UsageError
from reptile_np.experiments import episodes as episodes_module
from reptile_np.experiments import runs
from reptile_np.experiments.experiment import Experiment, make_experiment
from reptile_np.experiments.presets import PRESETS, get
from reptile_np.experiments.streams import Streams
from reptile_np.meta import evaluation, meta_gradients
from reptile_np.meta.inner_loop import adapt
from reptile_np.meta.optimizers import Adam, Clipped, HeavyBall, Sgd
from reptile_np.nn import models
from reptile_np.nn.losses import SoftmaxCrossEntropy
from reptile_np.nn.ops import NUMPY
from reptile_np.tasks import few_shot, folder, glyphs, mini_imagenet, sine
from tests.experiments.small import experiment, small
from tests.oracles import gamma
from tests.tasks import image_sets
from tests.tasks.image_sets import jpeg

OMNIGLOT = [name for name, preset in PRESETS.items() if preset.tasks.source == "omniglot"]
SINE = [name for name, preset in PRESETS.items() if preset.tasks.source == "sine"]


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


def pixels(x):
    return {image.tobytes() for image in x}


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


# Which stream


def spied_streams(monkeypatch):
    places = []
    original = Streams.rng

    def spy(self, name, *place):
        places.append((name, *place))
        return original(self, name, *place)

    monkeypatch.setattr(Streams, "rng", spy)
    return places


@pytest.mark.parametrize("name", ["glyphs-5way", "sine-reptile"])
def test_each_draw_comes_from_its_own_place_of_its_own_stream(monkeypatch, name):
    places = spied_streams(monkeypatch)
    made = experiment(name)
    assert places == ([("classes",), ("split",)] if name == "glyphs-5way" else [])
    places.clear()
    made.start()
    assert places == [("init",)]
    places.clear()
    made.episodes.training(7, 3)
    assert places == [("tasks", 7, 3), ("batches", 7, 3)]
    places.clear()
    made.episodes.evaluation(made.preset.evaluation, "test", 7)
    assert places == [("evaluation", 7)]


@pytest.mark.parametrize("name", ["glyphs-5way", "sine-reptile"])
def test_a_whole_run_takes_every_task_of_every_outer_step_once_and_evaluates_the_same_tasks_twice(
    monkeypatch, name
):
    preset = small(name)
    places = spied_streams(monkeypatch)
    runs.train(preset, 0, NUMPY, quiet=True)
    training = [place for place in places if place[0] in ("tasks", "batches")]
    outer, tasks = preset.outer, preset.evaluation.tasks
    assert training == [
        (stream, i, j)
        for i in range(outer.steps)
        for j in range(outer.meta_batch)
        for stream in ("tasks", "batches")
    ]
    assert [p for p in places if p[0] == "evaluation"] == [("evaluation", i) for i in range(tasks)] * 2


def test_an_image_episode_is_the_sampler_s_on_these_streams():
    made = experiment("glyphs-5way", "tasks.ways=3", "tasks.shots=4", "inner.batch=5", "inner.steps=6")
    streams = Streams(0)
    task = few_shot.sample_task(streams.rng("tasks", 2, 1), made.episodes.train, 3, 4, queries=0)
    expected = few_shot.minibatches(streams.rng("batches", 2, 1), task.support, 5, 6)
    assert_same_batches(made.episodes.training(2, 1), expected)
    spec = made.preset.evaluation
    rng = streams.rng("evaluation", 5)
    task = few_shot.sample_task(rng, made.episodes.test, 3, spec.shots)
    episode = made.episodes.evaluation(spec, "test", 5)
    assert_same_batches([episode.support, episode.query], [task.support, task.query])
    assert_same_batches(episode.batches, few_shot.minibatches(rng, task.support, spec.batch, spec.steps))


def test_a_sine_episode_is_the_sampler_s_on_these_streams():
    made = experiment("sine-reptile", "evaluation.shots=3")
    streams = Streams(0)
    wave = sine.sample_wave(streams.rng("tasks", 2, 1))
    grid = wave.batch(np.linspace(-5, 5, 50)[:, np.newaxis])
    assert_same_batches(
        made.episodes.training(2, 1), few_shot.minibatches(streams.rng("batches", 2, 1), grid, 10, 5)
    )
    rng = streams.rng("evaluation", 5)
    task = sine.sample_task(rng, 3)
    episode = made.episodes.evaluation(made.preset.evaluation, "test", 5)
    assert_same_batches([episode.support, episode.query], [task.support, task.query])
    assert len(task.support[1]) == 3
    assert_same_batches(episode.batches, few_shot.minibatches(rng, task.support, 10, 32))


def assert_same_batches(one, other):
    for (x, y), (x_other, y_other) in zip(one, other, strict=True):
        np.testing.assert_array_equal(x, x_other)
        np.testing.assert_array_equal(y, y_other)


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


@pytest.mark.parametrize("name", OMNIGLOT[:1] + SINE + ["glyphs-5way", "figure3-g4"])
def test_the_inner_optimiser_is_the_preset_s(name, request):
    preset = get(name)
    data = request.getfixturevalue("omniglot_data") if name in OMNIGLOT else None
    rate = preset.inner.learning_rate
    expected = {
        "adam": Adam(rate, beta1=0.0, beta2=0.999, epsilon=1e-8),
        "sgd": Sgd(rate),
    }[preset.inner.optimizer]
    assert make_experiment(preset, 0, NUMPY, data).inner == expected


@pytest.mark.parametrize(("name", "kind"), [("sgd", Sgd), ("momentum", HeavyBall), ("adam", Adam)])
def test_any_optimiser_serves_outside(name, kind):
    assert type(experiment("sine-reptile", f"outer.optimizer={name}").outer(0)) is kind


@pytest.mark.parametrize("last", [0.0, 0.25])
def test_the_outer_rate_at_step_i_of_n_is_first_times_1_minus_i_over_n_plus_last_times_i_over_n(last):
    made = experiment("sine-reptile", "outer.rate=0.75", f"outer.final_rate={last}", "outer.steps=8")
    for i in range(8):
        exact = Fraction(3, 4) * (1 - Fraction(i, 8)) + Fraction(last) * Fraction(i, 8)
        assert made.outer(i).learning_rate == float(exact)


def test_a_bound_is_put_before_the_outer_optimiser_of_every_step_with_that_step_s_rate():
    made = experiment("sine-maml", "outer.clip=0.125", "outer.rate=0.5", "outer.steps=4")
    assert [made.outer(i) for i in range(4)] == [Clipped(Adam(r), 0.125) for r in (0.5, 0.375, 0.25, 0.125)]


def test_the_fixed_parameters_have_the_inner_rate_0_and_all_others_the_preset_s():
    made = experiment("sine-maml", "inner.fixed=*/bias", "inner.learning_rate=0.25")
    rates = made.model.layout.views(made.inner.learning_rate)
    assert {name: set(rate.ravel().tolist()) for name, rate in rates.items()} == {
        f"dense{i}/{part}": {rate} for i in (1, 2, 3) for part, rate in (("kernel", 0.25), ("bias", 0.0))
    }


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
def test_a_run_steps_with_that_rate_and_the_mean_over_the_meta_batch(optimizer):
    """Every outer step of the run, made again from the trajectories alone."""
    settings = [f"outer.optimizer={optimizer}", "outer.rate=0.5", "outer.final_rate=0.25"]
    made = experiment("glyphs-5way", *settings)
    assert made.preset.outer.meta_batch == 2
    step, velocity = made.start(), 0
    for i, after in enumerate(made.outer_steps(step)):
        state, total = step.inner_state, 0 * step.phi
        for j in range(2):
            t = adapt(made.model, Adam(1e-3, beta1=0.0), step.phi, made.episodes.training(i, j), state)
            state, total = t.state, total + (t.phis[0] - t.phis[-1])
        velocity = (0.9 * velocity if optimizer == "momentum" else 0) + total / 2
        rate = 0.5 * (1 - i / 4) + 0.25 * (i / 4)
        np.testing.assert_array_equal(after.phi, step.phi - rate * velocity)
        np.testing.assert_array_equal(after.inner_state.v, state.v)
        step = after
    assert step.done == 4


# Which algorithm


def trajectory(made, keep="hessians"):
    start, batches = made.start(), made.episodes.training(0, 0)
    return adapt(made.model, made.inner, start.phi, batches, start.inner_state, keep=keep)


def test_maml_differentiates_through_steps_of_the_inner_rate():
    made = experiment("sine-maml", "inner.learning_rate=0.03", "outer.rate=0.7")
    t = trajectory(made)
    alpha = 0.03
    u = t.grads[-1]
    for phi, batch in list(zip(t.phis, t.batches, strict=False))[-2::-1]:
        u = u - alpha * made.model.hvp(phi, batch, u)
    np.testing.assert_array_equal(made.meta_gradient(t), u)
    other = meta_gradients.maml(made.model, 0.7)(t)
    assert np.abs(made.meta_gradient(t) - other).max() > 1e-2 * np.abs(u).max()


def test_maml_differentiates_through_steps_of_adam_from_the_state_of_the_task_before():
    made = experiment("sine-maml", "inner.optimizer=adam", "inner.learning_rate=0.003")
    after = next(made.outer_steps(made.start()))
    assert after.inner_state.t == 5
    t = adapt(made.model, made.inner, after.phi, made.episodes.training(1, 0), after.inner_state)
    direction = made.meta_gradient(t)
    np.testing.assert_array_equal(direction, meta_gradients.maml(made.model, Adam(0.003))(t))
    size = np.abs(direction).max()
    assert np.abs(direction - t.grads[-1]).max() > 1e-2 * size
    assert np.abs(direction - meta_gradients.maml(made.model, Adam(0.006))(t)).max() > 1e-2 * size


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sine-reptile", lambda t: t.phis[0] - t.phis[-1]),
        ("sine-fomaml", lambda t: t.phis[-2] - t.phis[-1]),
        ("sine-joint", lambda t: t.grads[0]),
        ("glyphs-5way", lambda t: t.phis[0] - t.phis[-1]),
    ],
)
def test_the_direction_is_the_preset_s_algorithm_s(name, expected):
    made = experiment(name)
    t = trajectory(made)
    np.testing.assert_array_equal(made.meta_gradient(t), expected(t))
    assert len(t.phis) == made.preset.inner.steps + 1


@pytest.mark.parametrize("name", [name for name in OMNIGLOT if name.startswith("figure3-")])
def test_a_curve_of_figure_3_steps_by_the_combination_of_gradients_that_its_name_says(omniglot_data, name):
    """g_k: the last gradient; sum_k: all of them; mean_k: their mean.  The gradients are summed losses'."""
    made = make_experiment(get(name), 0, NUMPY, omniglot_data)
    k = int(name[-1])
    t = trajectory(made, keep="all")
    step = next(made.outer_steps(made.start()))
    weights = {"g": [0] * (k - 1) + [1], "sum": [1] * k, "mean": [1 / k] * k}[name[len("figure3-") : -1]]
    terms = [0.25 * 3e-3 * w * g.astype(np.float64) for w, g in zip(weights, t.grads, strict=True)]
    # φ is rounded by half a spacing at each inner step, in their sum and at the outer step; else terms are.
    of_phi = (0.25 * (k + 1) + 1) * np.spacing(max(np.abs(phi).max() for phi in (*t.phis, step.phi))) / 2
    bound = of_phi + gamma(k + 3, np.float32) * sum(map(np.abs, terms))
    moved = made.start().phi.astype(np.float64) - step.phi
    assert (np.abs(moved - sum(terms)) <= bound).all()
    assert sum(len(y) for _, y in t.batches) == len(pixels(np.concatenate([x for x, _ in t.batches])))
    x, y = t.batches[0]
    assert t.losses[0] == SoftmaxCrossEntropy("sum").per_example(made.model.predict(t.phis[0], x), y).sum()


# Whose optimiser state, which numbers


def test_the_trained_and_the_untrained_point_are_each_evaluated_with_their_own_optimiser_state(monkeypatch):
    made = experiment("glyphs-5way")
    last = list(made.outer_steps(made.start()))[-1]
    seen = []
    original = evaluation.adapt

    def spy(model, optimizer, phi, batches, state, **kwargs):
        seen.append((optimizer, phi.tobytes(), state.t, state.v.tobytes()))
        return original(model, optimizer, phi, batches, state, **kwargs)

    monkeypatch.setattr(evaluation, "adapt", spy)
    runs.train(made.preset, 0, NUMPY, quiet=True)
    expected = [
        (made.inner, step.phi.tobytes(), step.inner_state.t, step.inner_state.v.tobytes())
        for step in (made.start(), last)
        for _ in range(3)
    ]
    assert seen == expected
    assert (made.start().inner_state.t, last.inner_state.t) == (0, 4 * 2 * 5)


def test_a_regression_is_evaluated_with_the_state_that_it_is_given():
    made = experiment("sine-reptile", "inner.optimizer=adam")
    last = list(made.outer_steps(made.start()))[-1]
    spec = made.preset.evaluation
    after = []
    for i in range(spec.tasks):
        episode = made.episodes.evaluation(spec, "test", i)
        tuned = adapt(made.model, made.inner, last.phi, episode.batches, last.inner_state).phis[-1]
        after.append(np.mean((made.model.predict(tuned, episode.query[0]) - episode.query[1]) ** 2))
    assert made.evaluate(last).to_json()["error"] == float(np.mean(np.array(after, float)))


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
