"""The environment of a run, as far as it is known."""

import json
import os
import platform
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from reptile_np import __version__
from reptile_np.experiments import environment
from reptile_np.nn.ops import NUMPY


def test_the_environment_names_versions_processor_and_kernels():
    values = environment.describe(replace(NUMPY, threads=3))
    assert json.loads(json.dumps(values)) == values
    assert (values["reptile_np"], values["numpy"]) == (__version__, np.__version__)
    assert values["python"] == platform.python_version()
    assert (values["system"], values["kernels"]) == (platform.platform(), "numpy")
    assert values["threads"] == 3
    assert values["processor"]


def test_outside_a_clone_or_without_git_there_is_no_commit(tmp_path, monkeypatch):
    assert environment._commit(tmp_path / "reptile_np") is None
    (tmp_path / ".git").mkdir()
    assert environment._commit(tmp_path) is None
    monkeypatch.setenv("PATH", "")
    (tmp_path / "reptile_np").mkdir()
    assert environment._commit(tmp_path / "reptile_np") is None


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_in_a_clone_the_commit_is_the_one_checked_out(tmp_path, monkeypatch):
    package = tmp_path / "reptile_np"
    package.mkdir()
    (package / "file").write_text("x")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "x")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "x@example.org")
    for arguments in (
        ["init", "-q"],
        ["add", "."],
        ["commit", "-q", "-m", "x"],
        ["tag", "-a", "v1", "-m", "x"],
    ):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tmp_path, check=True, capture_output=True)
    commit = head.stdout.decode().strip()
    assert environment._commit(package) == commit
    (package / "file").write_text("y")
    assert environment._commit(package) == f"{commit}-dirty"


@pytest.mark.parametrize("name", ["reptile_np", "commit", "numpy"])
def test_another_version_may_round_differently_and_both_are_named(name):
    before = {"kernels": "numpy", "reptile_np": "1", "commit": "1", "numpy": "1"}
    assert environment.change(before, before) is None
    assert f"{name} 2 instead of 1, which may round" in environment.change(before, {**before, name: "2"})
    del before[name]  # as an earlier version recorded it
    assert environment.change(before, {**before, name: "2"}) is None


def test_the_images_of_a_run_are_those_of_its_last_sitting(tmp_path):
    for name in ("first", "last", "asked"):
        (tmp_path / name).mkdir()
    first, last = ({"data": str(tmp_path / name), "images_sha256": name} for name in ("first", "last"))
    assert environment.data_folder(None, [first, last]) == tmp_path / "last"
    assert environment.data_folder(tmp_path / "asked", [first, last]) == tmp_path / "asked"
    assert environment.data_folder(None, [first, {"data": str(tmp_path / "gone")}]) is None
    assert not environment.other_images([first, last], "last")
    assert environment.other_images([first, last], "first")
    assert not environment.other_images([first, {"images_sha256": None}], "first")
    assert not environment.other_images([], "first")
