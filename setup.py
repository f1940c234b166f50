"""The C extension and the wheel's tag; everything else is in pyproject.toml.

Verified by ``tests/test_packaging.py``.
"""

import os
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

KERNELS = [] if sys.platform == "win32" else ["csrc/build_ffi.py:ffi"]
"""Microsoft's compiler has no vector types: on Windows the package is pure Python (CONTRIBUTING.md)."""

STABLE_ABI = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
"""Whether one wheel serves this Python and all later ones: cffi then builds for the stable ABI."""


class BuildKernels(build_ext):
    """Compiles as many sources at a time as there are cores.

    Deletes the extension of earlier sources if the present sources do not compile.
    """

    def build_extension(self, ext: Extension) -> None:
        """Compile and link `ext`."""
        compile_all = self.compiler.compile

        def compile_at_once(sources: list[str], **options: Any) -> list[str]:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                parts = pool.map(lambda source: compile_all([source], **options), sources)
                return [path for part in parts for path in part]

        self.compiler.compile = compile_at_once
        try:
            super().build_extension(ext)
        except Exception:
            Path(self.get_ext_fullpath(ext.name)).unlink(missing_ok=True)
            raise
        finally:
            self.compiler.compile = compile_all

    def run(self) -> None:
        """Build every extension, and with ``--inplace`` copy it to the sources."""
        super().run()
        for ext in self.extensions if self.inplace else []:
            if not Path(self.build_lib, self.get_ext_filename(ext.name)).exists():
                Path(self.get_ext_fullpath(ext.name)).unlink(missing_ok=True)


class TaggedWheel(bdist_wheel):
    """Tags a wheel as native if, and only if, it holds the extension."""

    def run(self) -> None:
        """Build, look at what was built, and make the wheel."""
        self.run_command("build")
        if not any(Path(self.get_finalized_command("build").build_lib).rglob("_kernels.*")):
            self.distribution.ext_modules = []
            self.root_is_pure = True
        super().run()


setup(
    cffi_modules=KERNELS,
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": TaggedWheel},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if STABLE_ABI else {},
)
