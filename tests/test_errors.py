"""What files, archives, servers and the system say is printed in one line; arguments are checked."""

import errno
import os
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from reptile_np.errors import (
    UsageError,
    check_callable,
    check_generator,
    number,
    printable,
    quoted,
    reason,
    whole,
)
from reptile_np.nn.models import sine_mlp
from reptile_np.tasks import few_shot, glyphs, image_classes, sine


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ä 文", "plain ä 文"),
        ("two  spaces", "two  spaces"),
        ("two\nlines\tand\r", "two\\nlines\\tand\\r"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\u202eright to left", "\\u202eright to left"),
        ("\udcff undecodable", "\\udcff undecodable"),
        (Path("a\nb"), "a\\nb"),
    ],
)
def test_control_characters_are_shown_as_their_escapes(text, shown):
    assert printable(text) == shown
    assert printable(text).isprintable()


@pytest.mark.parametrize("value", [1.0, "1", None, True, np.float64(2), 1, -3, np.int64(0)])
def test_what_is_no_whole_number_or_less_than_the_least_is_named(value):
    assert whole("tasks", np.int64(3), 2) == 3
    with pytest.raises(UsageError, match=r"^tasks is .*; give a whole number of at least 2$"):
        whole("tasks", value, 2)


def test_words_are_quoted_as_the_shell_of_the_system_reads_them(monkeypatch):
    assert quoted(["--out", "my runs"]) == "--out 'my runs'"
    monkeypatch.setattr(os, "name", "nt")
    assert quoted(["--out", r"C:\my runs"]) == r'--out "C:\my runs"'


@pytest.mark.parametrize("rng", [0, 7, -1, None, 0.5, "seed", np.random.RandomState(0)])
def test_a_seed_in_place_of_a_generator_is_named(rng):
    check_generator(np.random.default_rng(0))
    with pytest.raises(
        UsageError, match=f"^rng is {re.escape(repr(rng))}; give a generator, such as numpy"
    ) as error:
        check_generator(rng)
    advice = str(error.value).rpartition("default_rng(")[2].rstrip(")")
    assert int(advice) == (rng if isinstance(rng, int) and rng > 0 else 0)
    for draw in (
        sine_mlp().init,
        sine.sample_task,
        sine.sample_wave,
        lambda rng: few_shot.sample_task(rng, glyphs.draw(5, 3, np.random.default_rng(0)), 2, 1),
        lambda rng: glyphs.draw(5, 3, rng),
        lambda rng: image_classes.split_classes(rng, glyphs.draw(5, 3, np.random.default_rng(0)), 3),
        lambda rng: few_shot.separate_tail(rng, (np.ones((4, 1)), np.arange(4) % 2), 1),
    ):
        with pytest.raises(UsageError, match="give a generator"):
            draw(rng)
    for draw in (few_shot.minibatches, few_shot.minibatches_with_replacement):
        with pytest.raises(UsageError, match="give a generator"):
            draw(rng, (np.ones((3, 1)), np.arange(3)), 2, 1)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError("cut\r\n  short\x07"), "cut short\\x07"),
        (ValueError("wrong"), "wrong"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_the_reason_of_an_error_is_its_words_or_its_type(error, said):
    assert reason(error) == said


def test_a_number_is_returned_as_it_is_and_what_is_none_is_named():
    for value in (1, 0.5, Fraction(1, 3), 1j, np.float32(0.1)):
        assert number("rate", value) is value
    for value in (None, "1", [1], np.ones((2, 2))):
        with pytest.raises(UsageError, match=r"^rate is .*; give a number$") as error:
            number("rate", value)
        assert "\n" not in str(error.value)


def test_what_is_no_function_is_named():
    check_callable(one=abs, two=UsageError)
    for value, said in ((None, "None"), ("abs", "'abs'"), ([abs], "a list"), (np.ones(2), "a ndarray")):
        with pytest.raises(UsageError, match=f"^two is {said}; give a function$"):
            check_callable(one=abs, two=value)


def test_a_truth_value_is_no_whole_number():
    with pytest.raises(UsageError, match="tasks is True"):
        whole("tasks", True, 1)
