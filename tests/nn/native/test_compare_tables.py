"""tools/compare_tables.c, which runs one table beside another, is true of the tables that run anywhere."""

import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[3] / "csrc"
SOURCES = ("tools/compare_tables.c", "variants/portable16.c", "variants/portable.c", "core/team.c")
CC = shutil.which("cc")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    if CC is None:
        pytest.skip("no C compiler")
    path = tmp_path_factory.mktemp("compare") / "compare"
    sources = [CSRC / name for name in SOURCES]
    # -Og: compiling and running together take the least time
    flags = ["-std=c11", "-Og", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-pthread", f"-I{CSRC}"]
    names = ["-DRK_PORTABLE16", "-DRK_A=portable16", "-DRK_B=portable"]
    subprocess.run([CC, *flags, *names, *sources, "-lm", "-o", path], check=True)
    return path


def test_convolutions_are_exact_on_integers_and_networks_agree_with_another_table(program):
    result = subprocess.run([program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    assert result.stdout.startswith("portable16 beside portable\n40 convolutions")
    assert result.stdout.count("\nok ") == 49
    assert result.stdout.endswith("\n0 wrong\n")
