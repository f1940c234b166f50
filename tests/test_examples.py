"""Every script in examples/ runs and shows what it promises."""

import importlib.util
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


def test_own_images_are_told_apart_better_after_meta_training():
    pytest.importorskip("PIL")
    printed = output_of("own_images.py")
    untrained, trained = map(float, re.findall(r"trained: +([\d.]+)%", printed))
    assert trained > max(untrained + 15, 60)
    assert len(re.findall(r"a new image of (\w+): texture\d\d", printed)) == 3


def test_an_own_layer_is_right_and_a_forgotten_term_is_found():
    printed = output_of("own_model.py")
    for check in ("gradient", "Hessian product", "Taylor order"):
        assert f"{check}: right" in printed
    assert "without the second-order terms: Hessian product: wrong" in printed


@pytest.mark.parametrize(("script", "library"), [("check_pytorch.py", "torch"), ("check_jax.py", "jax")])
def test_a_model_of_another_library_is_checked_and_its_meta_gradient_recognised(script, library):
    printed = output_of(script)
    if importlib.util.find_spec(library) is None:
        assert "is not installed: pip install" in printed
        pytest.skip(f"{library} is not installed")
    assert "gradient: right" in printed
    assert "Hessian product: right" in printed
    assert re.findall(r"^with .*: (\w+)$", printed, re.M) == ["MAML", "FOMAML"]


@pytest.mark.parametrize("script", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_every_script_is_in_the_table_of_the_readme(script):
    assert f"`{script}`" in (EXAMPLES / "README.md").read_text(encoding="utf-8")
