"""Presets: the published values, settings and costs."""

import dataclasses
import json
import pickle

import pytest

from reptile_np.errors import UsageError
from reptile_np.experiments import presets
from reptile_np.experiments.presets import PRESETS, SAME_K, get
from reptile_np.experiments.presets_finn import FINN
from reptile_np.experiments.settings import from_json

# The hyper-parameter tables, typed from the paper and the authors' command lines, in the paper's order:
# Adam's rate, inner batch, inner steps, training shots, outer rate, outer steps, meta-batch,
# evaluation batch, evaluation steps; and the numbers of Table 2 for K shots: non-transductive, transductive.
OMNIGLOT = {
    "omniglot-5way": (5, 1e-3, 10, 5, 10, 1.0, 100_000, 5, 5, 50),
    "omniglot-20way": (20, 5e-4, 20, 10, 10, 1.0, 200_000, 5, 10, 50),
    "omniglot-v1-5way-1shot": (5, 4.4e-4, 5, 12, 12, 1.0, 200_000, 3, 5, 86),
    "omniglot-v1-5way-5shot": (5, 1.5e-3, 10, 5, 10, 0.7, 100_000, 5, 6, 100),
    "omniglot-v1-5way-1shot-transductive": (5, 1e-3, 25, 3, 15, 1.0, 100_000, 10, 25, 5),
    "omniglot-v1-20way-1shot": (20, 4.6e-4, 15, 12, 9, 1.0, 200_000, 3, 10, 97),
    "omniglot-v1-20way-5shot": (20, 4.6e-4, 20, 12, 12, 1.0, 200_000, 3, 10, 97),
}
MINI_IMAGENET = {  # the same, with the evaluation batch of 1-shot and of 5-shot
    "mini-imagenet-5way": (5, 1e-3, 10, 8, 15, 1.0, 100_000, 5, (5, 15), 50),
    "mini-imagenet-v1-1shot": (5, 1.2e-3, 3, 19, 12, 0.235, 200_000, 2, (3, 3), 55),
    "mini-imagenet-v1-5shot": (5, 2.2e-4, 10, 8, 15, 1.0, 200_000, 5, (15, 15), 88),
    "mini-imagenet-v1-1shot-transductive": (5, 1e-3, 5, 15, 15, 1.0, 100_000, 10, (5, 5), 10),
}
TABLE_1 = {
    "mini-imagenet-5way": {1: ((47.07, 0.26), (49.97, 0.32)), 5: ((62.74, 0.37), (65.99, 0.58))},
    "mini-imagenet-v1-1shot": {1: ((45.79, 0.44), None)},
    "mini-imagenet-v1-1shot-transductive": {1: (None, (48.21, 0.69))},
    "mini-imagenet-v1-5shot": {5: ((61.98, 0.69), (66.00, 0.62))},
}
TABLE_2 = {  # name: {shots: (non-transductive, transductive)}, each mean and ±; None: not this preset's
    "omniglot-5way": {1: ((95.39, 0.09), (97.68, 0.04)), 5: ((98.90, 0.10), (99.48, 0.06))},
    "omniglot-20way": {1: ((88.14, 0.15), (89.43, 0.14)), 5: ((96.65, 0.33), (97.12, 0.32))},
    "omniglot-v1-5way-1shot": {1: ((95.32, 0.05), None)},
    "omniglot-v1-5way-1shot-transductive": {1: (None, (97.97, 0.08))},
    "omniglot-v1-5way-5shot": {5: ((98.87, 0.02), (99.47, 0.04))},
    "omniglot-v1-20way-1shot": {1: ((88.27, 0.30), (89.36, 0.20))},
    "omniglot-v1-20way-5shot": {5: ((97.07, 0.12), (97.47, 0.10))},
}


def values(preset, evaluation_batch):
    inner, outer, evaluation = preset.inner, preset.outer, preset.evaluation
    return (
        preset.tasks.ways,
        inner.learning_rate,
        inner.batch,
        inner.steps,
        preset.tasks.shots,
        outer.rate,
        outer.steps,
        outer.meta_batch,
        evaluation_batch,
        evaluation.steps,
    )


def fixed(preset):
    return (
        preset.algorithm,
        preset.inner.optimizer,
        preset.outer.optimizer,
        preset.outer.final_rate,
        preset.tasks.tail_shots,
        preset.tasks.replacement,
        preset.filters,
    )


@pytest.mark.parametrize(
    ("name", "like"), [("images-5way", "omniglot-5way"), ("images-colour-5way", "mini-imagenet-5way")]
)
def test_own_images_are_trained_and_evaluated_as_the_papers_are(name, like):
    own, papers = get(name), get(like)
    assert (own.inner, own.outer, own.evaluation) == (papers.inner, papers.outer, papers.evaluation)


def test_the_outer_rate_of_first_order_maml_on_waves_is_five_times_reptile_s():
    """Reptile's direction is a sum of five gradients, first-order MAML's is one."""
    assert get("sine-fomaml").outer.rate == 5 * get("sine-reptile").outer.rate


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset not in FINN])
def test_one_query_of_each_class_is_classified_and_nothing_of_finns_program_is_set(name):
    tasks, preset = get(name).tasks, get(name)
    assert preset.evaluation.queries == 1
    assert (tasks.queries, tasks.turn, tasks.invert, tasks.train_classes) == (0, False, False, 0)
    assert (preset.inner.fixed, preset.outer.clip, preset.outer.beta1) == ("", 0, 0)


@pytest.mark.parametrize(
    ("shots", "queries", "gradients"),
    [
        (1, 1, 50 * 5 + 10),  # 5 passes of 6 images: 30
        (5, 1, 50 * 15 + 43),  # 5 passes of 26 images: 130
        (5, 15, 50 * 15 + 650),  # 75 passes of 26 images: 1,950
    ],
)
def test_a_task_of_evaluation_costs_its_minibatches_and_a_third_of_the_images_of_its_forward_passes(
    shots, queries, gradients
):
    spec = dataclasses.replace(get("mini-imagenet-5way").evaluation, shots=shots, queries=queries)
    assert spec.gradients(ways=5) == gradients


@pytest.mark.parametrize("name", OMNIGLOT)
def test_an_omniglot_preset_has_the_values_of_the_paper_s_table_or_the_authors_command(name):
    preset = get(name)
    assert values(preset, preset.evaluation.minibatch) == OMNIGLOT[name]
    assert fixed(preset) == ("reptile", "adam", "sgd", 0.0, 0, False, 64)


@pytest.mark.parametrize("name", MINI_IMAGENET)
def test_a_mini_imagenet_preset_has_the_values_of_the_paper_s_table_or_the_authors_command(name):
    preset = get(name)
    batches = tuple(dataclasses.replace(preset.evaluation, shots=shots).minibatch for shots in (1, 5))
    assert values(preset, batches) == MINI_IMAGENET[name]
    assert fixed(preset) == ("reptile", "adam", "sgd", 0.0, 0, False, 32)
    assert preset.network == ("mini-imagenet-v1" if "v1" in name else "mini-imagenet")
    assert (preset.tasks.source, preset.tasks.side, preset.tasks.channels) == ("mini-imagenet", 84, 3)


@pytest.mark.parametrize("name", SAME_K)
def test_a_run_of_the_same_k_study_takes_the_same_number_of_gradients_in_disjoint_minibatches(name):
    preset = get(name)
    k = int(name.rpartition("-k")[2])
    assert preset.inner.steps == k
    assert preset.inner_steps == {"glyphs": 6_720, "omniglot": 67_200}[preset.tasks.source]
    assert preset.tasks.ways * preset.tasks.shots == k * preset.inner.batch  # each example once
    first = get(f"same-k-{preset.tasks.source}-reptile-k1")
    same = dataclasses.replace(
        preset,
        name=first.name,
        algorithm=first.algorithm,
        tasks=first.tasks,
        inner=dataclasses.replace(preset.inner, steps=1),
        outer=dataclasses.replace(preset.outer, steps=first.outer.steps),
    )
    assert same == first


def test_the_published_numbers_are_those_of_tables_1_and_2():
    stated = {
        name: {
            shots: tuple(preset.published.get((shots, mode)) for mode in ("non_transductive", "transductive"))
            for shots in sorted({cell.shots for cell in preset.published})
        }
        for name, preset in PRESETS.items()
        if preset.published and preset not in FINN
    }
    assert stated == TABLE_1 | TABLE_2


@pytest.mark.parametrize("name", [name for name in TABLE_1 | TABLE_2 if "v1" in name])
def test_a_version_1_preset_evaluates_with_the_shots_of_its_cell(name):
    assert {cell.shots for cell in get(name).published} == {get(name).evaluation.shots}


def test_figure_3_has_the_ten_curves_of_the_paper():
    curves = {name for name in PRESETS if name.startswith("figure3-")}
    assert curves == {
        "figure3-g1",
        *(f"figure3-{curve}{k}" for k in (2, 3, 4) for curve in ("g", "sum", "mean")),
    }


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("figure3-")])
def test_a_figure_3_curve_has_the_values_of_table_6_and_the_command_lines(name):
    preset = get(name)
    k = int(name[-1])
    assert preset.algorithm == ("fomaml" if name == f"figure3-g{k}" else "reptile")
    assert (preset.inner.optimizer, preset.inner.learning_rate) == ("sgd", 3e-3)
    assert (preset.inner.batch, preset.inner.steps) == (25, k)
    assert preset.tasks.ways * preset.tasks.shots == 25 * k  # exactly one epoch
    assert (preset.outer.rate, preset.outer.final_rate) == (0.25 / k if "mean" in name else 0.25, 0.0)
    assert (preset.outer.steps, preset.outer.meta_batch, preset.outer.optimizer) == (40_000, 1, "sgd")
    assert (preset.evaluation.shots, preset.evaluation.batch, preset.evaluation.steps) == (5, 25, 5)


@pytest.mark.parametrize("name", ["sine-reptile", "sine-fomaml", "sine-maml", "sine-joint"])
def test_a_sine_preset_has_the_values_that_the_demo_has(name):
    preset = get(name)
    gradients = preset.inner.batch * preset.inner.steps
    assert gradients == 50  # the whole grid
    assert (preset.inner.optimizer, preset.inner.learning_rate) == ("sgd", 0.02)
    assert (preset.outer.steps, preset.outer.final_rate) == (30_000, 0.0)
    assert (preset.evaluation.shots, preset.evaluation.steps) == (10, 32)
    if name == "sine-reptile":
        assert (preset.outer.rate, preset.outer.optimizer, preset.inner.steps) == (0.1, "sgd", 5)


@pytest.mark.parametrize("name", PRESETS | SAME_K)
def test_a_preset_says_what_it_is_where_it_is_from_and_what_it_costs(name):
    preset = get(name)
    assert preset.name == name
    assert preset.about
    assert preset.source
    assert preset.hours > 0
    assert preset.inner_steps == preset.outer.steps * preset.outer.meta_batch * preset.inner.steps


def test_a_description_holds_everything_as_plain_json():
    for preset in (PRESETS | SAME_K).values():
        values = json.loads(json.dumps(presets.describe(preset)))
        assert values["source"] == preset.source
        assert len(values["published"]) == len(preset.published)
        assert from_json({key: values[key] for key in presets.to_json(preset)}) == preset


def test_the_cost_is_written_in_the_unit_that_suits_it():
    def cost(hours):
        return dataclasses.replace(get("omniglot-5way"), hours=hours).cost

    assert [cost(4 / 3600), cost(0.1), cost(0.9), cost(7)] == ["4 s", "6 min", "0.9 h", "7 h"]


@pytest.mark.parametrize(
    ("setting", "times"),
    [
        ("inner.batch=100", 10),  # of 10
        ("inner.steps=10", 2),  # of 5
        ("outer.steps=500", 0.5),  # of 1,000
        ("evaluation.tasks=1000", 1),  # training only
    ],
)
def test_the_time_of_a_training_grows_with_its_gradients(setting, times):
    changed = presets.with_settings(get("glyphs-5way"), [setting])
    assert presets.seconds(changed) == times * presets.seconds(get("glyphs-5way")) == times * 4


@pytest.mark.parametrize("name", ["omniglot-5-way", "omniglot\n5way"])
def test_an_unknown_preset_is_refused_with_the_nearest_names(name):
    with pytest.raises(UsageError, match="omniglot-5way") as error:
        get(name)
    assert str(error.value).isprintable()


def test_a_missing_name_is_no_preset():
    with pytest.raises(UsageError, match=r'^unknown preset "None" \(see: reptile-np list\)$'):
        get(None)


def test_presets_are_frozen_and_can_be_pickled():
    with pytest.raises(dataclasses.FrozenInstanceError):
        presets.get("sine-maml").outer.steps = 3
    assert all(pickle.loads(pickle.dumps(preset)) == preset for preset in (PRESETS | SAME_K).values())
