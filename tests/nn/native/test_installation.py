"""A copy of the package without kernels says why, and what to do."""

import os
import shutil
import subprocess
import sys
import venv
from importlib.util import find_spec
from pathlib import Path

import pytest

from reptile_np.nn import native
from reptile_np.nn.native import installation
from tests.building import skip_unless_the_package_can_be_built

ROOT = Path(__file__).parents[3]
KERNELS = sorted(Path(native.__file__).parent.glob("_kernels.*"))


def run(command, folder, **environment):
    """Run a command in `folder`, with PYTHONPATH and the variables of this test run removed."""
    ours = ("PYTHON", "REPTILE_NP")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    command, environment = [str(part) for part in command], {**clean, **environment}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of the repository without a built extension."""
    folder = tmp_path_factory.mktemp("clone") / "reptile"
    unwanted = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__")
    for name in ("reptile_np", "csrc"):
        shutil.copytree(ROOT / name, folder / name, ignore=unwanted)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def installed(clone, tmp_path_factory):
    """The Python of an environment into which pip installed the clone; its site-packages has kernels."""
    skip_unless_the_package_can_be_built()
    if not KERNELS:
        pytest.skip("native kernels are not built here")
    folder = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    program = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run([python, "-c", program], folder).stdout.strip())
    libraries = Path(find_spec("numpy").origin).parents[1]
    (site / "libraries_of_this_test_run.pth").write_text(f"{libraries}\n")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    # without a compiler: the extension that these tests run with is copied below, to save a minute
    pip = [sys.executable, "-m", "pip", "--python", python, "install"]
    done = run([*pip, *options, clone], folder, CC="/bin/false")
    assert done.returncode == 0, done.stderr
    for path in KERNELS:
        shutil.copy(path, site / "reptile_np/nn/native")
    return python


LOAD = "from reptile_np.nn import native; print(native.available()); native.load()"


def test_python_started_outside_the_clone_has_the_installed_kernels(installed, tmp_path):
    done = run([installed, "-c", LOAD], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "portable" in done.stdout


def test_python_started_in_the_clone_says_that_the_installed_copy_has_the_kernels(installed, clone):
    done = run([installed, "-c", LOAD], clone)
    assert done.stdout.strip() == "()"
    last = done.stderr.strip().splitlines()[-1]
    site = installed.parents[1].resolve()
    assert f"this is the copy of reptile_np in {clone}, which has no native kernels" in last
    assert f"the copy in {site}" in last
    assert f"pip install -e {clone}" in last


def test_list_started_in_the_clone_says_so_too(installed, clone):
    done = run([installed, "-m", "reptile_np", "list"], clone)
    assert done.returncode == 0, done.stderr
    assert "kernels: numpy\n" in done.stdout
    assert f"pip install -e {clone}" in done.stderr


def test_an_extension_that_does_not_load_is_named_with_the_reason(installed, clone):
    broken = clone / "reptile_np/nn/native" / KERNELS[0].name
    broken.write_bytes(b"not an extension")
    try:
        done = run([installed, "-c", LOAD], clone)
    finally:
        broken.unlink()
    last = done.stderr.strip().splitlines()[-1]
    assert "native kernels do not load (" in last
    assert broken.name in last


@pytest.mark.parametrize(("platform", "advice"), [("linux", "install a C compiler"), ("win32", "WSL")])
def test_without_any_extension_the_advice_fits_the_platform(platform, advice, monkeypatch, tmp_path):
    monkeypatch.setattr(installation, "HERE", tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "platform", platform)
    assert advice in installation.explain_absence()


def test_another_copy_counts_only_if_it_has_an_extension(tmp_path):
    folder = tmp_path / "reptile_np/nn/native"
    folder.mkdir(parents=True)
    assert installation.copy_with_kernels(["", str(tmp_path / "nothing"), str(tmp_path)]) is None
    (folder / "_kernels.c").touch()
    assert installation.copy_with_kernels([str(tmp_path)]) is None
    (folder / "_kernels.abi3.so").touch()
    found = installation.copy_with_kernels(["", str(tmp_path / "nothing"), str(tmp_path)])
    assert found == tmp_path.resolve()


def test_this_copy_is_not_another_copy():
    assert installation.copy_with_kernels([str(ROOT)]) is None
