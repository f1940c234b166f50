"""Decompress xz within bounded memory; `lzma.LZMAFile` has no limit of memory.

Verified by ``tests/tasks/test_archives.py`` and ``tests/tasks/test_hostile_archives.py``.
"""

from __future__ import annotations

import lzma
from typing import BinaryIO

__all__ = ["Xz"]

_CHUNK = 1 << 20  # bytes
_MEMORY = 1 << 28  # bytes: a file of `xz -9` needs 65 MB, a decompression bomb up to 4 GB


class Xz:
    """The decompressed bytes of an open xz file, read forwards."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._decoder, self._input = file, self._new_decoder(), b""

    @staticmethod
    def _new_decoder() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; none only at the end."""
        while True:
            if self._decoder.eof:  # one xz file may be several, one after another
                self._input = self._decoder.unused_data.lstrip(b"\0")
                while not self._input:  # zeros between two, or after the last
                    chunk = self._file.read(_CHUNK)
                    if not chunk:
                        return b""
                    self._input = chunk.lstrip(b"\0")
                self._decoder = self._new_decoder()
            elif self._decoder.needs_input and not self._input:
                self._input = self._file.read(_CHUNK)
                if not self._input:
                    raise EOFError("compressed data ends too early")
            output = self._decoder.decompress(self._input, size)
            self._input = b""
            if output:
                return output
