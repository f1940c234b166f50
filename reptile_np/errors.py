"""The one exception a user's mistake raises."""


class UsageError(ValueError):
    """Bad arguments or data: one line that says what, where and what to do.

    The command line prints the line and exits with 2; nothing has been
    overwritten.  Verified by ``tests/test_cli.py``.
    """
