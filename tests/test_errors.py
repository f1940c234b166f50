"""What files, archives and servers say is printed in one line, without control characters."""

from pathlib import Path

import pytest

from reptile_np.errors import printable


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
