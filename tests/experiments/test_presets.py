"""Presets: the published values, and settings that change exactly one of them."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.errors import UsageError
from reptile_np.experiments import presets
from reptile_np.experiments.presets import PRESETS, from_json, get, setting_keys, to_json, with_settings


def test_omniglot_5way_has_the_values_of_the_authors_final_command():
    preset = get("omniglot-5way")
    assert (preset.inner.optimizer, preset.inner.learning_rate) == ("adam", 1e-3)
    assert (preset.inner.batch, preset.inner.steps, preset.tasks.shots) == (10, 5, 10)
    assert (preset.outer.rate, preset.outer.final_rate, preset.outer.steps) == (1.0, 0.0, 100_000)
    assert (preset.outer.meta_batch, preset.evaluation.batch, preset.evaluation.steps) == (5, 5, 50)
    assert preset.filters == 64


def test_figure_3_has_ten_curves():
    curves = [preset for name, preset in PRESETS.items() if name.startswith("figure3-")]
    assert len(curves) == 10


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("figure3-")])
def test_a_figure_3_episode_is_exactly_one_epoch(name):
    preset = get(name)
    assert preset.tasks.ways * preset.tasks.shots == preset.inner.batch * preset.inner.steps
    assert preset.outer.meta_batch == 1
    assert preset.outer.rate == (0.25 / preset.inner.steps if "mean" in name else 0.25)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_json(name):
    preset = get(name)
    assert from_json(json.loads(json.dumps(to_json(preset)))) == preset


def test_a_setting_changes_one_value_and_nothing_else():
    before = get("omniglot-5way")
    after = with_settings(before, ["outer.steps=1000"])
    assert after == dataclasses.replace(before, outer=dataclasses.replace(before.outer, steps=1000))


@given(st.integers(1, 10**9))
def test_any_positive_integer_is_a_number_of_steps(steps):
    assert with_settings(get("sine-maml"), [f"outer.steps={steps}"]).outer.steps == steps


@pytest.mark.parametrize("key", setting_keys())
def test_every_listed_key_can_be_set_to_its_own_value(key):
    preset = get("omniglot-5way")
    value = preset
    for part in key.split("."):
        value = getattr(value, part)
    assert with_settings(preset, [f"{key}={value}"]) == preset


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("outer.steps", "key=value"),
        ("outer.step=3", "no such key"),
        ("outer=3", "no such key"),
        ("outer.steps.more=3", "no such key"),
        ("name=x", "no such key"),
        ("tasks.source=sine", "no such key"),
        ("outer.steps=many", "an integer"),
        ("outer.steps=1.5", "an integer"),
        ("outer.rate=fast", "a number"),
        ("outer.rate=nan", "finite"),
        ("outer.rate=inf", "finite"),
        ("outer.rate=-1", "not negative"),
        ("tasks.replacement=perhaps", "true or false"),
        ("inner.optimizer=lbfgs", "one of adam, sgd"),
        ("=", "no such key"),
    ],
)
def test_an_unusable_setting_is_refused_in_one_line(setting, says):
    with pytest.raises(UsageError, match=says) as error:
        with_settings(get("omniglot-5way"), [setting])
    assert "\n" not in str(error.value)
    assert setting in str(error.value)


def test_an_unknown_preset_is_refused_with_the_nearest_names():
    with pytest.raises(UsageError, match="omniglot-5way"):
        get("omniglot-5-way")


def test_a_config_of_another_version_is_refused():
    values = to_json(get("sine-maml"))
    values["outer"]["warmup"] = 3
    with pytest.raises(UsageError, match="another version"):
        from_json(values)


def test_presets_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        presets.get("sine-maml").outer.steps = 3
