"""What tests need that build or install the package, or that read the files of the clone."""

import importlib.metadata
from importlib.util import find_spec

import pytest


def skip_unless_the_package_can_be_built():
    """Skip a test if this environment lacks what pyproject.toml requires for building."""
    try:
        setuptools = importlib.metadata.version("setuptools")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("setuptools is not installed in this environment (the extra `dev` has it)")
    if int(setuptools.split(".")[0]) < 77:
        pytest.skip(f"setuptools is {setuptools}, and building needs 77 (the extra `dev` has it)")
    for name in ("cffi", "pip"):
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed in this environment")


def in_a_virtual_environment(path, root):
    """Whether a file below `root` is in a virtual environment there, whatever its name: `venv`, `env`."""
    return any((folder / "pyvenv.cfg").is_file() for folder in path.parents if folder.is_relative_to(root))
