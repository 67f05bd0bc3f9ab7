"""Folders that are made for records, and why one cannot be made."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_ROOM = 200
"""Bytes that the names inside a job's folder may add to its path."""


class FolderError(OSError):
    """A folder cannot be made or used; the message is one line that names it and the reason."""

    def __init__(self, path: Path, reason: str, number: int = errno.EIO) -> None:
        super().__init__(number, reason, str(path))

    def __str__(self) -> str:
        return f"the folder {_cut(str(self.filename))} cannot be used: {self.strerror}"


def make_folder(path: Path) -> None:
    """Make the folder ``path``, and those above it, unless it exists. Raises ``FolderError``."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise folder_error(path, error) from error


def folder_error(path: Path, error: OSError) -> FolderError:
    """Return why ``path`` cannot be made, given what the operating system answered."""
    reason = _in_the_way(path) or error.strerror or str(error)
    return FolderError(path, reason, error.errno or errno.EIO)


def check_room(path: Path) -> None:
    """Raise ``FolderError`` where the path of a record inside ``path`` would be too long."""
    length, longest = len(os.fsencode(path)), os.pathconf("/", "PC_PATH_MAX")
    if length + _ROOM > longest:
        reason = f"its path has {length:,} bytes, and paths of files at most {longest:,}"
        raise FolderError(path, reason, errno.ENAMETOOLONG)


def _in_the_way(path: Path) -> str | None:
    """Return what is no folder although ``path`` needs one there; ``None`` if nothing is."""
    for one in (*reversed(path.parents), path):
        if os.path.isdir(one):
            continue
        if os.path.islink(one):
            return f"{one} is a link to {os.readlink(one)}, which is no folder"
        return f"{one} is a file" if os.path.lexists(one) else None
    return None


def _cut(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:200]}...{text[-97:]}"
