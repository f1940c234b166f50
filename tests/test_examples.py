"""Every script in examples/ runs and shows what it promises."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def output_of(script, *arguments):
    """What a script prints."""
    command = [sys.executable, "-W", "error", EXAMPLES / script, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout


def test_reptile_in_one_file_learns_new_waves_better_from_trained_parameters():
    printed = output_of("reptile_on_sine_waves.py", "3000")
    untrained, trained = map(float, re.findall(r"parameters: +([\d.]+)", printed))
    assert trained < untrained / 1.5


def test_the_remainders_of_the_taylor_expansions_have_slope_2():
    slopes = [float(slope) for slope in re.findall(r"slope ([\d.]+)", output_of("taylor_expansion.py"))]
    assert slopes == pytest.approx([2, 2, 2], abs=0.02)


@pytest.mark.parametrize("script", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_every_script_is_in_the_table_of_the_readme(script):
    assert f"`{script}`" in (EXAMPLES / "README.md").read_text(encoding="utf-8")
