"""Build the C extension `reptile_np.nn.native._kernels` (cffi, API mode).

``setup.py`` names this file.  cffi reads interface.h without its # lines.
"""

import platform
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

SOURCES = ["dispatch.c", "core/team.c", "variants/portable.c", "variants/portable16.c"]
if platform.machine().lower() in ("x86_64", "amd64"):
    SOURCES += ["variants/avx2.c", "variants/avx512.c"]
elif platform.machine().lower() in ("aarch64", "arm64"):
    SOURCES += ["variants/neon.c"]

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


ffi = FFI()
ffi.cdef(declarations())
ffi.set_source(
    "reptile_np.nn.native._kernels",
    '#include "interface.h"',
    sources=[str((HERE / name).relative_to(ROOT)) for name in SOURCES],
    include_dirs=[str(HERE.relative_to(ROOT))],
    depends=[str(header.relative_to(ROOT)) for header in sorted(HERE.rglob("*.h"))],
    extra_compile_args=FLAGS,
    extra_link_args=["-pthread"],
    libraries=["m"],
    optional=True,  # without a C compiler the package is pure NumPy, and `reptile-np list` says so
)
