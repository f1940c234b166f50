"""The API reference is written without a warning, and shows what users start from."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_the_reference_is_written_without_a_warning(tmp_path):
    pytest.importorskip("pdoc")
    command = [sys.executable, ".ci/api_reference.py", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    start = (tmp_path / "reptile_np.html").read_text(encoding="utf-8")
    assert 'id="load"' in start
    for page in ("meta", "nn", "tasks", "pretrained", "experiments/learner"):
        assert (tmp_path / f"reptile_np/{page}.html").exists()
