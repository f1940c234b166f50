"""What files, archives and servers say is printed in one line, without control characters."""

import os
from pathlib import Path

import numpy as np
import pytest

from reptile_np.errors import UsageError, check_generator, printable, quoted, whole
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


@pytest.mark.parametrize("value", [1.0, "1", None, True, np.float64(2)])
def test_what_is_no_whole_number_is_named(value):
    assert whole("tasks", np.int64(3)) == 3
    with pytest.raises(UsageError, match=r"^tasks is .*; give a whole number$"):
        whole("tasks", value)


def test_words_are_quoted_as_the_shell_of_the_system_reads_them(monkeypatch):
    assert quoted(["--out", "my runs"]) == "--out 'my runs'"
    monkeypatch.setattr(os, "name", "nt")
    assert quoted(["--out", r"C:\my runs"]) == r'--out "C:\my runs"'


@pytest.mark.parametrize("rng", [0, None])
def test_a_seed_in_place_of_a_generator_is_named(rng):
    check_generator(np.random.default_rng(0))
    with pytest.raises(UsageError, match=rf"^rng is {rng}; give a generator, such as numpy"):
        check_generator(rng)
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
