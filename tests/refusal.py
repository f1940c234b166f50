"""The one line with which a function refuses its arguments."""

import pytest

from reptile_np.errors import UsageError


def refusal(function, *args, **options):
    """The message of the `UsageError` that the call raises; it is one line."""
    with pytest.raises(UsageError) as caught:
        function(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)
