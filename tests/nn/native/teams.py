"""Calls of the team, in this process and in a program of its own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reptile_np.nn import native

TASKS = Path("/proc/self/task")
on_linux = pytest.mark.skipif(not TASKS.exists(), reason="threads are counted in /proc")


def convolution(threads):
    """y of one convolution of the machine's best variant, on `threads` threads."""
    from reptile_np.nn.native._kernels import ffi, lib

    table = lib.rk_dispatch(native.available()[0].encode())
    names = "height width channels kernel_height kernel_width filters stride pad_top pad_left out_height"
    numbers = (20, 20, 32, 3, 3, 64, 2, 0, 0, 10)
    shape = ffi.new("rk_conv *", dict(zip(names.split(), numbers, strict=True)) | {"out_width": 10})
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 20, 20, 32)).astype(np.float32)
    w = rng.normal(size=(3, 3, 32, 64)).astype(np.float32)
    y, memory = np.empty((8, 10, 10, 64), np.float32), np.empty(table.conv_size(shape, 8) + 64, np.uint8)
    memory = memory[-memory.ctypes.data % 64 :]
    x, w, out = (ffi.from_buffer("float[]", a) for a in (x, w, y))
    table.conv(shape, 8, x, w, out, ffi.from_buffer(memory), threads)
    return y


def close():
    from reptile_np.nn.native._kernels import lib

    lib.rk_team_close()


def tasks():
    """The numbers of this process's threads."""
    return {int(task.name) for task in TASKS.iterdir()}


def run(program, timeout=60, preloaded=""):
    """Run a program that has `convolution`, `close` and `tasks` in its own interpreter."""
    head = "import os, sys, threading, time\nfrom tests.nn.native.teams import *\n"
    return subprocess.run(
        [sys.executable, "-c", head + program],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"LD_PRELOAD": str(preloaded)},
        timeout=timeout,
        capture_output=True,
        text=True,
        check=False,
    )
