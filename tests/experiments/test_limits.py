"""Limits: settings that cannot work are refused in one line, before anything is allocated."""

import tracemalloc

import numpy as np
import pytest

from reptile_np.errors import UsageError
from reptile_np.experiments import experiment as experiment_module
from reptile_np.experiments import limits
from reptile_np.experiments.episodes import SineEpisodes
from reptile_np.experiments.experiment import network
from reptile_np.experiments.presets import PRESETS, get
from reptile_np.experiments.settings import setting_keys
from reptile_np.experiments.streams import Streams
from reptile_np.meta.evaluation import Episode, evaluate
from reptile_np.meta.optimizers import Sgd
from tests.experiments.small import experiment, small

POSITIVE = [
    "tasks.ways", "tasks.shots", "inner.batch", "inner.steps", "outer.steps", "outer.meta_batch",
    "evaluation.shots", "evaluation.batch", "evaluation.steps", "evaluation.queries", "evaluation.tasks",
    "filters",
    "tasks.classes", "tasks.images",
]  # fmt: skip


@pytest.mark.parametrize("key", POSITIVE)
def test_a_count_of_zero_is_refused(key):
    with pytest.raises(UsageError, match=rf"{key}=0: must be at least"):
        experiment("glyphs-5way", f"{key}=0")


@pytest.mark.parametrize(
    ("name", "setting", "says"),
    [
        ("maml-omniglot-5way-1shot", "inner.optimizer=adam", "inner.fixed: .*set inner.optimizer=sgd"),
        ("sine-joint", "inner.steps=2", "inner.steps=1"),
        ("sine-maml", "outer.beta1=1", r"outer\.beta1=1\.0: must be at least 0 and less than 1"),
        (
            "sine-reptile",
            "outer.beta1=0.9",
            r"outer\.beta1=0\.9: is read by Adam only: set outer\.optimizer=adam",
        ),
        (
            "glyphs-5way",
            "tasks.ways=1",
            "tasks.ways=1: must be at least 2, because a classifier needs two classes",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(name, setting, says):
    with pytest.raises(UsageError, match=says):
        experiment(name, setting)


@pytest.mark.parametrize("size", [10**9, 10**13, 2**63 - 1])
@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("glyphs-5way", "inner.batch"),
        ("glyphs-5way", "inner.steps"),
        ("glyphs-5way", "tasks.classes"),
        ("glyphs-5way", "tasks.images"),
        ("glyphs-5way", "tasks.shots"),
        ("glyphs-5way", "tasks.ways"),
        ("glyphs-5way", "filters"),
        ("glyphs-5way", "evaluation.shots"),
        ("glyphs-5way", "evaluation.batch"),
        ("glyphs-5way", "evaluation.steps"),
        ("glyphs-5way", "evaluation.tasks"),
        ("sine-reptile", "inner.batch"),
        ("sine-reptile", "inner.steps"),
        ("sine-maml", "inner.steps"),
        ("sine-reptile", "evaluation.shots"),
    ],
)
def test_sizes_that_cannot_be_are_refused_at_once_with_what_they_would_take(name, key, size, monkeypatch):
    monkeypatch.setattr(limits, "memory", lambda: 10**10)
    monkeypatch.setattr(experiment_module, "inner_optimizer", None)  # the first that allocates
    monkeypatch.setattr(experiment_module, "make_episodes", None)  # draws the classes
    with pytest.raises(
        UsageError, match=rf"{key}={size}.*would take at least .* 10 GB; choose smaller values"
    ):
        experiment(name, f"{key}={size}")


def needed(*settings):
    """The estimates for a small run, by the keys of settings."""
    preset = small("glyphs-5way", *settings)
    model, _ = network(preset)
    return limits.memory_needed(preset, preset.evaluation, model), model.layout.size


@pytest.mark.parametrize(("optimizer", "vectors"), [("sgd", 2), ("adam", 3)])
def test_exact_maml_keeps_phi_the_gradient_and_under_adam_a_moment_of_every_step(optimizer, vectors):
    settings = (f"inner.optimizer={optimizer}", "inner.steps=1000", "inner.batch=4")
    maml, size = needed("algorithm=maml", *settings)
    reptile, _ = needed(*settings)
    (key,) = [key for key in maml if key.startswith("inner.batch") and "inner.steps" in key]
    assert maml[key] - reptile[key] == vectors * 1000 * 4 * size


def test_each_estimate_for_images_is_the_bytes_of_what_there_is_at_one_time():
    estimates, _ = needed(
        "tasks.ways=4", "tasks.shots=7", "tasks.images=9", "inner.batch=11", "evaluation.batch=6",
        "evaluation.shots=2",
    )  # fmt: skip
    parameters = 9 * 3 + 3 * 9 * 3 * 3 + 4 * 3 * 3 + 2 * 2 * 3 * 4 + 4  # kernels; biases, γ, β; last layer
    activations = 4 * 3 * (14 * 14 + 7 * 7 + 4 * 4 + 2 * 2)  # float32, 3 filters
    example = 4 * 28 * 28 + 8  # float32 pixels, int64 label
    assert (parameters, activations, example) == (358, 3180, 3144)
    assert estimates == {
        "filters=3, tasks.ways=4": 4 * 4 * 358,  # float32: φ, φ of the task, a gradient, the direction
        "tasks.ways=4, tasks.shots=7": 4 * 7 * (28 * 28 + 8),  # a byte for each pixel
        "tasks.classes=50, tasks.images=9": 50 * 9 * 28 * 28,
        "inner.batch=11": 11 * 3180,
        "inner.batch=11, inner.steps=5": 11 * 5 * 3144,
        "evaluation.batch=6, evaluation.steps=4": 6 * 4 * 3144 + 6 * 3180,
        "evaluation.shots=2": 2 * 3144,
        "evaluation.tasks=3": 3 * 150,
    }


def test_each_estimate_for_waves_is_the_bytes_of_what_there_is_at_one_time():
    preset = small("sine-reptile", "inner.batch=11", "evaluation.batch=6", "evaluation.shots=2")
    model, _ = network(preset)
    assert limits.memory_needed(preset, preset.evaluation, model) == {
        "inner.batch=11": 11 * 4 * (64 + 64),  # float32 outputs of two layers
        "inner.batch=11, inner.steps=5": 11 * 5 * (4 + 4),  # float32 x and y
        "evaluation.batch=6, evaluation.steps=32": 6 * 32 * (4 + 4) + 6 * 4 * (64 + 64),
        "evaluation.shots=2": 2 * (8 + 8 + 8 + 4),  # float64 x, x + phase and sin; float32 x
        "evaluation.tasks=3": 3 * 150,
    }


def test_the_estimate_for_the_points_of_a_wave_is_the_peak_of_a_test_task():
    points = 200_000
    preset = small("sine-reptile", f"evaluation.shots={points}")
    model, _ = network(preset)
    tracemalloc.start()
    SineEpisodes(preset, Streams(0)).evaluation(preset.evaluation, "test", 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    estimate = limits.memory_needed(preset, preset.evaluation, model)[f"evaluation.shots={points}"]
    assert estimate < peak < 1.02 * estimate  # 1.005 was measured: minibatches and 50 points of the query set


class Linear:
    def loss_and_grad(self, phi, batch):
        return 0.0, phi


def test_the_estimate_for_the_scores_of_an_evaluation_is_a_lower_bound_within_a_factor_of_six():
    """The scores of all tasks are kept as Python's numbers until the end."""
    tasks, phi, rng = 3000, np.zeros(1), np.random.default_rng(0)
    episode = Episode((None, None), (None, None), [None])

    def score(model, phi, episode):
        return {"transductive": rng.random(), "non_transductive": rng.random()}

    tracemalloc.start()
    evaluate(Linear(), Sgd(0.1), phi, (), lambda i: episode, tasks, score=score)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    (estimate,) = {needed(f"evaluation.tasks={tasks}")[0][f"evaluation.tasks={tasks}"]}
    assert estimate < peak < 6 * estimate


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_fits_into_two_gigabytes(name):
    preset = get(name)
    model, _ = network(preset)
    assert max(limits.memory_needed(preset, preset.evaluation, model).values()) < 2 * 10**9


def test_the_memory_of_this_machine_is_asked_for(monkeypatch):
    assert limits.memory() > 10**8
    monkeypatch.delattr("os.sysconf")
    assert limits.memory() == limits.UNKNOWN_MEMORY


def test_every_setting_that_counts_something_is_tested_here():
    counted = {key for key in setting_keys() if type(_value(small("glyphs-5way"), key)) is int}
    elsewhere = {"tasks.tail_shots", "evaluation.one_shot_batch", "tasks.side", "tasks.channels"}
    elsewhere |= {"tasks.queries", "tasks.train_classes"}  # 0 is allowed: none, and the source's own
    assert counted - elsewhere == set(POSITIVE)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("tasks.side=0", "must be 1 to 768"),
        ("tasks.side=769", "must be 1 to 768"),
        ("tasks.channels=0", r"must be 1 \(grey\) or 3 \(colour\)"),
        ("tasks.channels=2", r"must be 1 \(grey\) or 3 \(colour\)"),
    ],
)
def test_images_that_no_import_makes_are_refused(setting, says):
    with pytest.raises(UsageError, match=f"^{setting}: {says}$"):
        limits.check_settings(small("images-5way", setting))


@pytest.mark.parametrize("network", ["mini-imagenet", "mini-imagenet-v1"])
def test_the_mini_imagenet_network_is_refused_for_images_of_another_size(network):
    with pytest.raises(UsageError, match="84 x 84 x 3"):
        limits.check_settings(small("images-5way", f"network={network}"))


def _value(preset, key):
    for part in key.split("."):
        preset = getattr(preset, part)
    return preset


def test_of_one_shot_the_estimate_names_the_batch_of_one_shot():
    settings = "evaluation.shots=1", "evaluation.one_shot_batch=7", "evaluation.batch=6"
    assert "evaluation.one_shot_batch=7, evaluation.steps=4" in needed(*settings)[0]
