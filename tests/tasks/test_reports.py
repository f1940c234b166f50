"""Why an operation failed, in one line."""

import errno

import pytest

from reptile_np.tasks.reports import reason


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
