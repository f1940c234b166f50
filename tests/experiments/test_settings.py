"""Settings: exactly one value changes, with its type checked, from the command line and from JSON alike."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.errors import UsageError
from reptile_np.experiments.limits import check_settings
from reptile_np.experiments.presets import PRESETS, get, setting_keys, to_json, with_settings
from reptile_np.experiments.settings import differences, from_json


def value_at(preset, key):
    for part in key.split("."):
        preset = getattr(preset, part)
    return preset


@given(st.integers(1, 10**9))
def test_any_positive_integer_is_a_number_of_steps(steps):
    assert with_settings(get("sine-maml"), [f"outer.steps={steps}"]).outer.steps == steps


def replaced(spec, path, value):
    """The spec with another value at a path of keys."""
    key, *rest = path
    return dataclasses.replace(spec, **{key: replaced(getattr(spec, key), rest, value) if rest else value})


WORDS = {"algorithm": "joint", "network": "conv", "inner.optimizer": "sgd", "outer.optimizer": "adam"}
WORDS |= {"inner.fixed": "dense"}


@pytest.mark.parametrize("name", ["omniglot-5way", "glyphs-5way", "sine-maml"])
def test_every_listed_key_sets_its_own_value_and_no_other(name):
    preset = get(name)
    for key in set(setting_keys(preset.tasks.source)) - {"tasks.source"}:  # which decides on other keys too
        before = value_at(preset, key)
        value = not before if isinstance(before, bool) else WORDS[key] if key in WORDS else before + 1
        assert with_settings(preset, [f"{key}={value}"]) == replaced(preset, key.split("."), value), key


@pytest.mark.parametrize("name", ["omniglot-5way", "glyphs-5way", "sine-maml"])
def test_every_key_that_a_preset_does_not_read_is_refused(name):
    preset = get(name)
    for key in set(setting_keys()) - set(setting_keys(preset.tasks.source)):
        with pytest.raises(UsageError, match=f"cannot be set for {name}"):
            with_settings(preset, [f"{key}={value_at(preset, key)}"])


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("outer.steps", "key=value"),
        ("outer.step=3", "no such key"),
        ("outer=3", "no such key"),
        ("outer.steps.more=3", "no such key"),
        ("name=x", "no such key"),
        ("about=x", "no such key"),
        ("hours=1", "no such key"),
        ("published=1", "no such key"),
        ("tasks.source=sine", "must be omniglot or folder"),
        ("tasks.source=glyphs", "must be omniglot or folder"),
        ("tasks.source=", "must be omniglot or folder"),
        ("tasks.images=5", "cannot be set for omniglot-5way"),
        ("outer.steps=many", "an integer"),
        ("outer.steps=1.5", "an integer"),
        ("outer.steps=9223372036854775808", "at most"),
        ("outer.rate=fast", "a number"),
        ("outer.steps=-1", "must be an integer that is not negative"),
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


@pytest.mark.parametrize(
    "name", [name for name in PRESETS if get(name).tasks.source in ("omniglot", "mini-imagenet")]
)
def test_a_preset_of_images_takes_a_folder_of_other_images_and_keeps_all_that_a_folder_reads(name):
    before, after = get(name), with_settings(get(name), ["tasks.source=folder"])
    changed = {key for key in setting_keys() if value_at(before, key) != value_at(after, key)}
    assert "tasks.source" in changed
    assert changed <= {"tasks.source", "tasks.invert", "tasks.train_classes"}
    assert (after.tasks.source, after.tasks.invert, after.tasks.train_classes) == ("folder", False, 0)
    assert with_settings(before, ["tasks.source=folder", "tasks.source=folder"]) == after


def test_the_source_of_tasks_counts_first_wherever_it_stands():
    for settings in (["tasks.side=14", "tasks.source=folder"], ["tasks.source=folder", "tasks.side=14"]):
        tasks = with_settings(get("omniglot-5way"), settings).tasks
        assert (tasks.source, tasks.side) == ("folder", 14)
    with pytest.raises(UsageError, match=r"tasks\.invert=true: cannot be set"):
        with_settings(get("omniglot-5way"), ["tasks.invert=true", "tasks.source=folder"])


@pytest.mark.parametrize("name", ["sine-maml", "glyphs-5way"])
def test_a_preset_that_makes_its_own_data_takes_no_folder(name):
    with pytest.raises(UsageError, match=f"cannot be set for {name}"):
        with_settings(get(name), ["tasks.source=folder"])


def test_the_largest_whole_number_of_64_bits_is_accepted():
    assert with_settings(get("omniglot-5way"), ["outer.steps=9223372036854775807"]).outer.steps == 2**63 - 1


def test_a_pattern_of_two_lines_is_refused():
    with pytest.raises(UsageError, match="must be one line of text"):
        with_settings(get("omniglot-5way"), ["inner.fixed=a\nb"])


@pytest.mark.parametrize("setting", ["outer.steps=1\n2", "a\nb", "a\nb=3", "\x1b[2J=1"])
def test_a_line_break_or_an_escape_sequence_in_a_setting_does_not_reach_the_terminal(setting):
    with pytest.raises(UsageError) as error:
        with_settings(get("omniglot-5way"), [setting])
    assert str(error.value).isprintable()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_json(name):
    preset = get(name)
    assert from_json(json.loads(json.dumps(to_json(preset)))) == preset


def test_json_holds_what_decides_a_run_and_not_its_description():
    preset = get("omniglot-5way")
    assert set(to_json(preset)) == {
        "name", "algorithm", "tasks", "inner", "outer", "evaluation", "filters", "network"
    }  # fmt: skip
    assert dataclasses.replace(preset, about="", source="", hours=0.0, published={}) == preset


def test_settings_of_earlier_versions_mean_28_x_28_images_one_batch_for_every_k_and_the_omniglot_network():
    values = to_json(get("omniglot-5way"))
    del values["network"], values["tasks"]["side"], values["tasks"]["channels"]
    del values["evaluation"]["one_shot_batch"]
    assert from_json(values) == get("omniglot-5way")


VALUES = ["64", 64.5, None, [], {}, True, -1, 2**63, float("nan"), [[[[]]]]]
RIGHT = {
    "filters": [],
    "outer.steps": [],
    "outer.rate": [64.5, 2**63],
    "tasks.replacement": [True],
    "name": ["64"],
}
"""Which of these values a key takes."""


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key in RIGHT for value in VALUES if value not in RIGHT[key]], ids=repr
)
def test_a_value_of_the_wrong_type_in_json_is_refused_and_named(key, value):
    values = to_json(get("omniglot-5way"))
    *path, last = key.split(".")
    place = values
    for part in path:
        place = place[part]
    place[last] = value
    with pytest.raises(UsageError, match=rf"preset\.{key} must be") as error:
        from_json(values)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("value", [None, [], 3, "x"])
def test_a_section_that_is_not_an_object_is_refused_and_named(value):
    values = {**to_json(get("omniglot-5way")), "inner": value}
    with pytest.raises(UsageError, match=r"preset\.inner must be an object"):
        from_json(values)
    with pytest.raises(UsageError, match="preset must be an object"):
        from_json(value)


def test_missing_and_unknown_keys_and_words_in_json_are_named():
    def edited(change):
        values = to_json(get("omniglot-5way"))
        change(values)
        with pytest.raises(UsageError) as error:
            from_json(values)
        return str(error.value)

    assert "preset.outer.warmup is not a key" in edited(lambda v: v["outer"].update(warmup=3))
    assert "preset.outer.rate is missing" in edited(lambda v: v["outer"].pop("rate"))
    assert "preset.filters is missing" in edited(lambda v: v.pop("filters"))
    assert "one of adam, sgd" in edited(lambda v: v["inner"].update(optimizer="lbfgs"))
    assert "one of reptile" in edited(lambda v: v.update(algorithm=[]))


@pytest.mark.parametrize("name", ["../../x", "a/b", "a\\b", "", ".", "..", "D:x"])
def test_a_name_that_cannot_be_the_name_of_a_folder_is_refused(name):
    """An export makes a folder whose name begins with it."""
    with pytest.raises(UsageError, match=r"^preset\.name .*: cannot be the name of a folder"):
        from_json({**to_json(get("omniglot-5way")), "name": name})
    with pytest.raises(UsageError, match=r"^preset\.name"):
        check_settings(dataclasses.replace(get("omniglot-5way"), name=name))


def test_a_name_of_two_lines_is_refused_before_it_is_written():
    with pytest.raises(UsageError, match=r"^preset\.name .*: cannot be the name of a folder"):
        check_settings(dataclasses.replace(get("omniglot-5way"), name="a\nb"))


def test_an_integer_in_json_serves_as_a_number():
    values = to_json(get("omniglot-5way"))
    values["outer"]["rate"] = 1
    rate = from_json(values).outer.rate
    assert (rate, type(rate)) == (1.0, float)


def test_settings_that_are_one_text_are_refused():
    with pytest.raises(UsageError, match=r"^settings is text; give a list: \['outer.steps=3'\]$"):
        with_settings(get("omniglot-5way"), "outer.steps=3")


def test_a_setting_that_is_no_text_is_refused():
    with pytest.raises(UsageError, match=r"^--set 5: write it as key=value"):
        with_settings(get("omniglot-5way"), [5])


def test_the_keys_of_an_unknown_source_are_refused_with_the_sources_there_are():
    with pytest.raises(UsageError, match=r'^no source of tasks "sine-maml"; choose one of sine, omniglot, '):
        setting_keys("sine-maml")


@pytest.mark.parametrize("name", ["omniglot-5way", "glyphs-5way", "sine-maml"])
def test_every_setting_that_differs_is_named_with_both_values(name):
    preset = get(name)
    for key in set(setting_keys(preset.tasks.source)) - {"tasks.source"}:
        before = value_at(preset, key)
        value = not before if isinstance(before, bool) else WORDS[key] if key in WORDS else before + 1
        value = {"sgd": "adam", "adam": "sgd"}.get(before, value)
        other = with_settings(preset, [f"{key}={value}"])
        assert differences((preset, 2), (other, 2)) == f"{key}={before} instead of {value_at(other, key)}"


def test_differences_of_runs_are_few_words():
    preset = get("glyphs-5way")
    assert differences((preset, 0), (preset, 0)) == ""
    assert differences((preset, 0), (preset, 1)) == "seed=0 instead of 1"
    assert differences((preset, 0), (get("sine-maml"), 1)) == "preset glyphs-5way instead of sine-maml"
    other = with_settings(preset, ["outer.steps=7", "outer.rate=0.5", "outer.meta_batch=3", "filters=4"])
    says = "outer.rate=1.0 instead of 0.5, outer.steps=1000 instead of 7, outer.meta_batch=2 instead of 3"
    assert differences((preset, 0), (other, 1)) == f"{says}, and 2 more"
    assert differences((preset, 0), (other, 0)) == f"{says}, and 1 more"
