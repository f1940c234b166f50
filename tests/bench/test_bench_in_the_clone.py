"""Started in the clone, the benchmark times the installed kernels, or says where kernels are."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import reptile_np
from reptile_np.nn import native

RUN_PY = Path(__file__).parents[2] / "benchmarks" / "run.py"
built = pytest.mark.skipif(not native.available(), reason="no native kernels are built here")


@pytest.fixture
def installed_and_clone(tmp_path):
    """As after pip install: a package with kernels in site/, the same without in clone/, a console script."""
    package = Path(reptile_np.__file__).parent
    shutil.copytree(package, tmp_path / "site" / "reptile_np")
    without_kernels = shutil.ignore_patterns("_kernels.*")
    shutil.copytree(package, tmp_path / "clone" / "reptile_np", ignore=without_kernels)
    (tmp_path / "bin").mkdir()
    program = "from reptile_np.cli import main\nraise SystemExit(main())\n"
    (tmp_path / "bin" / "reptile-np").write_text(program)
    return tmp_path


def in_the_clone(place, *command, **variables):
    return subprocess.run(
        [sys.executable, *command],
        cwd=place / "clone",
        env={**os.environ, "PYTHONPATH": str(place / "site"), **variables},
        capture_output=True,
        text=True,
    )


@built
def test_an_installed_program_started_in_the_clone_times_the_installed_kernels(installed_and_clone):
    args = ["bench", "--seconds", "0.1", "--threads", "1", "--works", "sine dense2 input", "--json"]
    done = in_the_clone(installed_and_clone, "../bin/reptile-np", *args)
    assert done.returncode == 0
    assert any(row["variant"].startswith("native") for row in json.loads(done.stdout)["rows"])


@built
def test_python_started_in_the_clone_says_where_the_kernels_are(installed_and_clone):
    says = ("another folder", str(installed_and_clone / "site"))
    train = ["train", "sine-joint", "--set", "outer.steps=1", "--set", "evaluation.tasks=1", "--quiet"]
    bench = ["bench", "--seconds", "0.1", "--threads", "1", "--works", "sine dense2 input"]
    for command, code in ((["list"], 0), (train, 0), (bench, 0), ([*train, "--ops", "native"], 2)):
        done = in_the_clone(installed_and_clone, "-m", "reptile_np", *command)
        assert done.returncode == code
        assert [line for line in done.stderr.splitlines() if all(words in line for words in says)]
    assert not in_the_clone(installed_and_clone, "../bin/reptile-np", "list").stderr


@built
def test_the_documented_command_in_the_clone_measures_kernels_or_keeps_no_file(installed_and_clone):
    shutil.copytree(RUN_PY.parent / "peers", installed_and_clone / "clone" / "benchmarks" / "peers")
    shutil.copy(RUN_PY, installed_and_clone / "clone" / "benchmarks")
    results = installed_and_clone / "clone" / "benchmarks" / "results"
    results.mkdir()
    args = ["mine", "--seconds", "0.2", "--threads", "1", "--peers", "--works", "sine meta*"]
    done = in_the_clone(installed_and_clone, "benchmarks/run.py", *args)
    assert done.returncode == 0
    assert "| sine meta-iteration, 32 SGD steps of batch 10 | 1 |" in done.stdout
    record = (results / "mine.json").read_text()
    assert in_the_clone(installed_and_clone, "benchmarks/run.py", *args).returncode == 2  # not overwritten
    assert (results / "mine.json").read_text() == record
    done = in_the_clone(installed_and_clone, "benchmarks/run.py", "sub/mine", *args[1:])
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "give a name only" in done.stderr
    shutil.rmtree(installed_and_clone / "site")
    done = in_the_clone(installed_and_clone, "benchmarks/run.py", "other", PYTHONPATH=".")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "native kernels" in done.stderr
    assert [path.name for path in results.iterdir()] == ["mine.json"]
