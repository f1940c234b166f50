"""What files, archives and servers say reaches a person in one line, without control characters."""

import errno

import pytest

from reptile_np.tasks.reports import one_line, reason


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ä 文", "plain ä 文"),
        ("two\nlines\r\n and\ttabs", "two lines and tabs"),
        ("\x1b[31mred\x07", "?[31mred?"),
        ("\u202eright to left", "?right to left"),
        ("\udcff undecodable", "? undecodable"),
    ],
)
def test_a_line_has_no_control_characters(text, shown):
    assert one_line(text) == shown


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError("cut\nshort"), "cut short"),
        (ValueError("wrong"), "wrong"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_the_reason_of_an_error_is_its_words_or_its_type(error, said):
    assert reason(error) == said
