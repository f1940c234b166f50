"""A source that is an http(s) address: what is there is fetched once, into the folder of the import.

Verified by ``tests/tasks/test_remote.py``.
"""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

from reptile_np.errors import UsageError, printable, reason
from reptile_np.files import expanded
from reptile_np.tasks import importing
from reptile_np.tasks.archives import ARCHIVE_SUFFIXES
from reptile_np.tasks.download import fetch
from reptile_np.tasks.reports import ProgressCallback

__all__ = ["fetch_once", "is_address", "local"]


def is_address(source: str | Path) -> bool:
    """Return whether a source is an http(s) address, not a path.

    Raises
    ------
    UsageError
        If it is an address of another kind.
    """
    scheme, colon, _ = str(source).partition("://")
    if not colon or not scheme.isalnum():
        return False
    if scheme.lower() not in ("http", "https"):
        raise UsageError(f"{printable(source)}: only http and https addresses are read; give a path instead")
    return True


def local(source: str | Path, to: str | Path | None, name: str, progress: ProgressCallback) -> Path:
    """Return the path of a source; an archive at an address is fetched into the folder `to` and stays there.

    `name` is the data set's; `to` None is the user's cache folder.

    Raises
    ------
    UsageError
        If the address is not of an archive, or it cannot be fetched.
    """
    if not is_address(source):
        return expanded(source)
    file = Path(unquote(urlsplit(str(source)).path)).name
    if not file.lower().endswith(ARCHIVE_SUFFIXES):
        kinds = ", ".join(ARCHIVE_SUFFIXES)
        raise UsageError(f"{printable(source)}: give the address of an archive ({kinds})")
    address = urldefrag(str(source)).url  # archives of two addresses may have the same name
    path = importing.target_folder(to) / f"{sha256(address.encode()).hexdigest()[:8]}-{file}"
    fetch_once(str(source), path, name, _check_archive, progress)
    return path


def fetch_once(
    address: str, path: Path, name: str, check: Callable[[Path], None], progress: ProgressCallback
) -> None:
    """Download a file if it is not there yet; wait for an import of `name` that may be doing so.

    Raises
    ------
    UsageError
        As `fetch`, and if the folder cannot be written.
    """
    try:
        with importing.locked(path.parent, name, progress):
            if not path.exists():
                fetch(address, path, check, progress)
    except OSError as error:
        raise UsageError(
            f"{printable(path.parent)}: cannot be written ({reason(error)}); choose another --to"
        ) from error


def _check_archive(path: Path) -> None:
    """Refuse what is neither a zip nor a tar archive, such as a page that says where the file is."""
    if not (zipfile.is_zipfile(path) or tarfile.is_tarfile(path)):
        raise UsageError("the server sent no archive; give the address of the file itself")
