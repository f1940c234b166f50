"""Fetch one file over HTTP: resume where the server can, restart where it cannot."""

from __future__ import annotations

import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from reptile_np.errors import UsageError, printable, reason
from reptile_np.files import rename
from reptile_np.tasks.reports import ProgressCallback, no_progress

__all__ = ["CHUNK", "TIMEOUT_SECONDS", "fetch"]

CHUNK = 1 << 16
TIMEOUT_SECONDS = 60.0


def fetch(
    url: str, path: Path, check: Callable[[Path], None], progress: ProgressCallback = no_progress
) -> None:
    """Download `url` to `path`, which exists only once it is whole.

    Until then the bytes are in `path` + ".part".  The next call continues that file (HTTP Range) if the
    server supports it, and starts again otherwise.

    Parameters
    ----------
    url : str
        http or https.
    path : Path
        Must not exist; its folder must.
    check : callable
        Called with the finished ".part"; raises `UsageError` if the file is not the expected one, and the
        file is then deleted.
    progress : callable
        Counts the bytes.

    Raises
    ------
    UsageError
        No connection, a refusal by the server, or a connection cut short.

    Notes
    -----
    Verified by ``tests/tasks/test_download.py`` against a server that cuts connections.
    """
    part = path.with_name(path.name + ".part")
    try:
        _continue(url, part, progress)
        check(part)
        rename(part, path)
    except UsageError:
        part.unlink(missing_ok=True)
        raise
    except (OSError, ValueError, http.client.HTTPException) as error:  # URLError is an OSError
        raise UsageError(
            f"{printable(url)}: {_reason(error)}; try again, or pass --from with a folder"
        ) from error


def _continue(url: str, part: Path, progress: ProgressCallback) -> None:
    """Append the missing bytes to `part`."""
    have = part.stat().st_size if part.exists() else 0
    try:
        response = _open(url, have)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not have:
            raise
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return  # whole: a kill came between the last byte and the renaming
        part.unlink()
        have, response = 0, _open(url, 0)
    if have and response.status == http.HTTPStatus.PARTIAL_CONTENT:
        sent = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if not sent or int(sent[1]) != have:  # not the bytes that are missing
            response.close()
            have, response = 0, _open(url, 0)
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0
        length = response.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        # Unbuffered: the bytes received before a kill are in the file.
        with part.open("ab" if have else "wb", buffering=0) as file:
            while chunk := response.read1(CHUNK):
                file.write(chunk)
                have += len(chunk)
                progress(part.stem, have, total)
            os.fsync(file.fileno())
    if total is not None and have < total:
        raise OSError(f"connection cut after {have:,} of {total:,} bytes")


def _open(url: str, start: int) -> http.client.HTTPResponse:
    headers = {"Range": f"bytes={start}-"} if start else {}
    request = urllib.request.Request(url, headers=headers)
    response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    return response


def _reason(error: Exception) -> str:
    """Return the error in one line."""
    if type(error) is urllib.error.URLError:
        return f"cannot connect ({printable(error.reason)})"
    return reason(error)
