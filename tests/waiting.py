"""Waiting for what another process does."""

import time


def wait_for(condition, seconds=60):
    """Return as soon as ``condition()`` is true; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
