"""The page from the paper's symbols to our names: every name exists, every key of --set is one."""

import importlib
import re
from pathlib import Path

import pytest

import reptile_np
from reptile_np.experiments import presets

TEXT = (Path(reptile_np.__file__).parent / "SYMBOLS.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"`((?:meta|nn|tasks|theory)\.[\w.]+)`", TEXT)))
KEYS = sorted(set(re.findall(r"`--set ([\w.]+)`", TEXT)))


@pytest.mark.parametrize("name", NAMES)
def test_every_name_exists(name):
    parts, end = name.split("."), 0
    found = reptile_np
    for end, part in enumerate(parts, 1):  # noqa: B007 - where the modules end
        try:
            found = importlib.import_module(f"reptile_np.{'.'.join(parts[:end])}")
        except ModuleNotFoundError:
            break
    for part in parts[end - 1 :]:
        known = {**getattr(found, "__dataclass_fields__", {})}
        found = known[part] if part in known else getattr(found, part)


@pytest.mark.parametrize("key", KEYS)
def test_every_key_of_set_is_one(key):
    assert key in presets.setting_keys()


def test_a_name_that_does_not_exist_would_be_found():
    with pytest.raises(AttributeError):
        test_every_name_exists("meta.inner_loop.absent")
    assert len(NAMES) > 20
    assert KEYS  # else every test of a key would be skipped
