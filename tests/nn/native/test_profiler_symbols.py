"""A profiler shows each kernel's instruction set: every local symbol of a variant ends in its name."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[3] / "csrc"
pytestmark = pytest.mark.skipif(
    not (shutil.which("cc") and shutil.which("nm")), reason="no C compiler, or no nm"
)


def test_every_function_of_a_variant_is_named_after_it(tmp_path):
    variant = "portable"  # the others differ in two numbers and the target
    object_file = tmp_path / "variant.o"
    flags = ["-std=c11", "-O1", "-Wno-psabi", "-pthread", f"-I{CSRC}"]
    subprocess.run(["cc", *flags, "-c", CSRC / f"variants/{variant}.c", "-o", object_file], check=True)
    listing = subprocess.run(["nm", object_file], capture_output=True, text=True, check=True).stdout
    functions = [line.split()[-1] for line in listing.splitlines() if line.split()[-2] in "tT"]
    assert len(functions) > 30
    assert [name for name in functions if not re.search(rf"_{variant}(\.\w+)*$", name)] == []
