"""The one place where records are written to disk."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from pydantic_core import to_json

from pytest_siren.jobs.plain import plain

_UNSEEN = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xa8-\xae]|\xe2\x81[\xa6-\xa9]")
"""UTF-8 of what JSON allows unescaped, but terminals obey: controls, separators, text direction."""


class Form(Enum):
    """How a record becomes a file."""

    DOCUMENT = "a JSON file that appears whole or not at all"
    LINE = "one more line of a JSON Lines file"
    SNAPSHOT = "a YAML file that appears whole and must not exist yet"


def write(
    path: Path,
    record: Mapping[str, Any],
    form: Form,
    *,
    header: Sequence[str] = (),
    sync: bool = False,
) -> None:
    """Write ``record`` to ``path``; everything that goes into a job passes through here.

    ``plain`` tells how values that JSON lacks are spelled. ``header`` becomes comment lines of a
    ``SNAPSHOT``. With ``sync`` the content has reached the disk before the file has its name.
    Raises ``FileExistsError`` when a ``SNAPSHOT`` exists, ``OSError`` when the disk refuses.
    """
    content = plain(record)
    match form:
        case Form.DOCUMENT:
            _replace(path, _json(content, indent=2), sync)
        case Form.LINE:
            _append(path, _json(content), sync)
        case Form.SNAPSHOT:
            # PyYAML loses line separators and the like unless it may escape all but ASCII.
            text = yaml.safe_dump(content, sort_keys=False, allow_unicode=False)
            comments = "".join(f"# {line}\n" for line in header)
            _create(path, f"{comments}\n{text}".encode(), sync)


def _json(content: Any, indent: int | None = None) -> bytes:
    data = to_json(content, indent=indent)
    return _UNSEEN.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), data) + b"\n"


def _replace(path: Path, data: bytes, sync: bool) -> None:
    temporary = _temporary(path, data, sync)
    try:
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _create(path: Path, data: bytes, sync: bool) -> None:
    temporary = _temporary(path, data, sync)
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links: exclusive all the same, though not atomic.
        _fill(path, data, sync)
    finally:
        temporary.unlink(missing_ok=True)


def _append(path: Path, data: bytes, sync: bool) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _lock(descriptor)
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            # A process died within its line: end that line, so that only it is lost.
            data = b"\n" + data
        written = os.write(descriptor, data)
        if written != len(data):
            raise OSError(f"{path}: only {written} of {len(data)} bytes of a line were written")
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Keep others from appending until ``descriptor`` is closed, where the file system can.

    Without it a line is appended whole all the same, but a look at the end of the file may fall
    into another's line and add an empty one, which readers pass over.
    """
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _temporary(path: Path, data: bytes, sync: bool) -> Path:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    _fill(temporary, data, sync)
    return temporary


def _fill(path: Path, data: bytes, sync: bool) -> None:
    with open(path, "xb", buffering=0) as file:
        try:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            if sync:
                os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
