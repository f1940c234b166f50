"""A server that runs while a test uses it."""

import threading

import pytest

from reptile_np.play.server import Server
from tests.play.serving import ASKED, echo


@pytest.fixture
def server():
    ASKED.clear()
    with Server({"/echo": echo}) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()
