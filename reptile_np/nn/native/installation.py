"""Saying why there are no kernels: not built, not loadable, or built for another copy of the package.

Python started in a clone imports the clone's ``reptile_np``, even if ``pip install .`` has put a copy with
kernels among the installed packages.

Verified by ``tests/nn/native/test_installation.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from reptile_np.errors import reason

__all__ = ["HERE", "PACKAGE", "copy_with_kernels", "explain_absence", "has_kernels"]

HERE = Path(__file__).resolve().parent
PACKAGE = "reptile_np"


def explain_absence() -> str:
    """Return one line: why this copy of the package has no native kernels, and what to do."""
    if has_kernels(HERE):
        try:
            import_module(f"{__package__}._kernels")
        except ImportError as error:
            return f"native kernels do not load ({reason(error)}): reinstall {PACKAGE}, or use --ops numpy"
    copy = copy_with_kernels(sys.path)
    if copy is not None:
        root = HERE.parents[2]
        return (
            f"this is the copy of {PACKAGE} in {root}, which has no native kernels; the copy in {copy} has: "
            f"start Python in another folder, or run: pip install -e {root}"
        )
    if sys.platform == "win32":
        return "there are no native kernels for Windows: use --ops numpy, or Linux inside Windows (WSL)"
    return f"native kernels are not built: install a C compiler and reinstall {PACKAGE}, or use --ops numpy"


def copy_with_kernels(search: Iterable[str]) -> Path | None:
    """Return the first folder of `search` with another copy of the package that has kernels, or None."""
    for folder in search:
        native = Path(folder, PACKAGE, "nn", "native").resolve()
        if native != HERE and has_kernels(native):
            return Path(folder).resolve()
    return None


def has_kernels(native: Path) -> bool:
    """Return whether an extension file lies in this ``nn/native`` folder."""
    return any(path.suffix in {".so", ".pyd"} for path in native.glob("_kernels.*"))
