"""One writer of an index at a time, where the file system has locks."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """Yield a descriptor of ``path``, open for appending, that no other process holds meanwhile.

    The file is made if it is not there. On file systems without locks nobody is kept out. Raises
    ``OSError``.
    """
    descriptor = _open(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    while True:
        descriptor = os.open(path, _FLAGS, 0o666)
        try:
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_still(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        # Somebody has put a new file into its place while this one was waited for.
        os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
