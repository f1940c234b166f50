"""A profiler shows each kernel's instruction set: every local symbol of a variant ends in its name."""

import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from reptile_np.nn import native

VARIANTS = Path(__file__).parents[3] / "csrc" / "variants"
pytestmark = pytest.mark.skipif(sys.platform != "linux" or not shutil.which("nm"), reason="no GNU nm")


@pytest.fixture(scope="module")
def functions():
    """{C source file: the names of its local functions}, of the kernels that Python loads."""
    if not native.available():
        pytest.skip("the kernels are not built")
    (path,) = Path(native.__file__).parent.glob("_kernels*.so")
    # in the order of the file: each source file (type a), then its local symbols (functions: type t)
    listing = subprocess.run(["nm", "-a", "-p", path], capture_output=True, text=True, check=True).stdout
    source, found = "", defaultdict(list)
    for kind, name in (line.split()[-2:] for line in listing.splitlines() if len(line.split()) == 3):
        if kind == "a":
            source = name
        elif kind == "t":
            found[source].append(name)
    if not found:
        pytest.skip("the kernels are stripped of their symbols")
    return found


@pytest.mark.parametrize("variant", sorted(path.stem for path in VARIANTS.glob("*.c")))
def test_every_function_of_a_variant_is_named_after_it(functions, variant):
    if not (names := functions[f"{variant}.c"]):
        pytest.skip("not compiled for this processor architecture")
    assert len(names) > 30
    assert [name for name in names if not re.search(rf"_{variant}(\.\w+)*$", name)] == []
