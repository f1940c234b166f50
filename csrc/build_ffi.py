"""Build the C extension `reptile_np.nn.native._kernels` (cffi, API mode).

``setup.py`` names this file.  cffi reads interface.h without its # lines.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

SOURCES = [
    "dispatch.c",
    "core/team.c",
    "variants/portable.c",
    "variants/portable16.c",
    "variants/avx2.c",
    "variants/avx512.c",
    "variants/neon.c",
]
"""Files for another processor compile to nothing: universal binaries of macOS compile each file twice.
So does portable16.c, unless CFLAGS holds -DRK_PORTABLE16."""

FLAGS = [
    "-std=c11",
    "-O3",
    "-pthread",
    "-Wall",
    "-Wextra",
    "-ffp-contract=fast",  # a * b + c in one rounding if there is an instruction for it
    "-fno-math-errno",  # sqrtf is an instruction; errno is never read
    "-Wno-psabi",  # vectors are passed to inlined functions only
]


def declarations() -> str:
    """Return interface.h as cffi reads it."""
    lines = (HERE / "interface.h").read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


def options(platform: str, environment: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the compile flags, link flags and libraries for `platform`, a value of ``sys.platform``.

    Python's own flags often ask for debug information, three quarters of the file's size.  It is left out
    unless ``CFLAGS`` asks for it.  Symbol names stay: profilers show them.
    """
    wanted = any(flag.startswith("-g") for flag in environment.get("CFLAGS", "").split())
    apple = platform == "darwin"  # threads and mathematics are in its system library
    return {
        "extra_compile_args": FLAGS if wanted else [*FLAGS, "-g0"],
        "extra_link_args": [] if apple else ["-pthread"],
        "libraries": [] if apple else ["m"],
    }


ffi = FFI()
ffi.cdef(declarations())
ffi.set_source(
    "reptile_np.nn.native._kernels",
    '#include "interface.h"',
    sources=[str((HERE / name).relative_to(ROOT)) for name in SOURCES],
    include_dirs=[str(HERE.relative_to(ROOT))],
    depends=[str(header.relative_to(ROOT)) for header in sorted(HERE.rglob("*.h"))],
    optional=True,  # without a C compiler the package is pure NumPy, and `reptile-np list` says so
    **options(sys.platform, os.environ),
)
