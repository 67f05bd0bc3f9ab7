"""Writes records to disk, always without secrets, and the marks of those who write to a job."""

from __future__ import annotations

import errno
import fcntl
import gzip
import json
import os
import re
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from pydantic_core import to_json

from pytest_siren.jobs.records.jsonable import JsonList, JsonRecord, to_jsonable
from pytest_siren.jobs.records.naming import CONFIG_FILE
from pytest_siren.jobs.redact import ENVIRONMENT, Redactor
from pytest_siren.sharing.state import host, lives, started_at
from pytest_siren.yamlpos.reader import NOT_IN_1_1

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


_UNSEEN = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xa8-\xae]|\xe2\x81[\xa6-\xa9]")
"""UTF-8 of what JSON allows unescaped, but terminals obey: controls, separators, text direction."""


# libyaml writes the 100,000 tasks of a large file in 5 s, the pure Python dumper in 22 s.
class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Quotes what is no text for a reader of YAML 1.1, and what is none for one of YAML 1.2."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", NOT_IN_1_1, list("+-0123456789"))


_LEVEL = 3
"""Of gzip: a third of the time of the usual one, and a tenth more bytes."""


class Form(Enum):
    """How a record becomes a file."""

    DOCUMENT = "a JSON file that appears whole or not at all"
    PART = "a JSON file that counts only once the document beside it is there"
    COMPRESSED = "as PART, compressed by gzip"
    SNAPSHOT = "a YAML file that appears whole and must not exist yet"
    REVISION = "a YAML file that takes the place of the one before, whole"


def write(
    path: Path | str,
    record: Mapping[str, Any],
    form: Form,
    *,
    header: Sequence[str] = (),
    sync: bool = False,
    redactor: Redactor = ENVIRONMENT,
) -> None:
    """Write ``record`` to ``path``; everything that goes into a job passes through here.

    ``plain`` tells how values that JSON lacks are spelled, ``redactor`` which secrets are taken
    out. ``header`` becomes comment lines of YAML. With ``sync`` the content has reached the disk
    before the file has its name. Raises ``FileExistsError`` when a ``SNAPSHOT`` exists, ``OSError``
    when the disk refuses.
    """
    match form:
        case Form.DOCUMENT:
            _replace(path, _json(record, 2, redactor), sync)
        case Form.PART:
            _fill_and_close(path, _json(record, 2, redactor), sync)
        case Form.COMPRESSED:
            data = _json(record, 2, redactor)
            _fill_and_close(path, gzip.compress(data, _LEVEL, mtime=0), sync)
        case Form.SNAPSHOT:
            _create(path, _yaml(record, header, redactor), sync)
        case Form.REVISION:
            _replace(path, _yaml(record, header, redactor), sync)


def append(
    path: Path,
    records: Iterable[Mapping[str, Any]],
    *,
    sync: bool = False,
    redactor: Redactor = ENVIRONMENT,
) -> None:
    """Add a line for each of ``records`` to a JSON Lines file, all of them with one write.

    Raises ``OSError`` when the disk refuses.
    """
    _append(path, json_lines(records, redactor), sync)


def json_lines(records: Iterable[Mapping[str, Any]], redactor: Redactor = ENVIRONMENT) -> bytes:
    """Return a line for each of ``records``, as JSON Lines files have them."""
    return b"".join(_json(record, redactor=redactor) for record in records)


def append_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Add ``lines``, which a record held before, as they are. Raises ``OSError``."""
    _append(path, b"".join(line + b"\n" for line in lines), sync=True)


def write_lines(
    path: Path, records: Iterable[Mapping[str, Any]], kept: Iterable[bytes] = ()
) -> None:
    """Write a JSON Lines file anew; it appears whole or not at all.

    The lines ``kept`` are written as they are, after the others. Raises ``OSError`` when the disk
    refuses.
    """
    lines = [_json(record) for record in records]
    lines += [line + b"\n" for line in kept]
    _replace(path, b"".join(lines), sync=True)


@dataclass(frozen=True)
class Written:
    """A JSON file that has its name, and whose content may not have reached the disk."""

    path: str
    _descriptor: int

    def sync(self) -> None:
        """Wait until the content has reached the disk; ``close`` must follow.

        Of several files the first that is synchronised takes the others along on most file systems.
        """
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Give the descriptor back, once."""
        os.close(self._descriptor)


def put(path: str, record: Mapping[str, Any], redactor: Redactor = ENVIRONMENT) -> Written:
    """Write ``record`` to ``path``, where it appears whole or not at all.

    Nobody else may write there. Another process sees it whole from now on, and goes on to when this
    one is killed. Raises ``OSError`` when the disk refuses.
    """
    folder, name = os.path.split(path)
    temporary = f"{folder}/.{name}.tmp"
    descriptor = _fill(temporary, _json(record, 2, redactor))
    try:
        os.replace(temporary, path)
    except OSError:
        os.close(descriptor)
        _remove(temporary)
        raise
    return Written(path, descriptor)


def config_text(record: Mapping[str, Any], header: Sequence[str] = ()) -> str:
    """Return ``record`` as ``config.yaml`` holds it, secrets taken out."""
    return _yaml(record, header, ENVIRONMENT).decode()


def _yaml(record: Mapping[str, Any], header: Sequence[str], redactor: Redactor) -> bytes:
    # PyYAML loses line separators and the like unless it may escape all but ASCII.
    content = redactor.config(to_jsonable(record))
    text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=False)
    comments = "".join(f"# {line}\n" for line in header)
    return f"{comments}\n{text}".encode()


def _json(record: Any, indent: int | None = None, redactor: Redactor = ENVIRONMENT) -> bytes:
    ready = record if type(record) is JsonRecord else to_jsonable(record, keep=(JsonList,))
    try:
        data = to_json(ready, indent=indent, inf_nan_mode="strings")
    except ValueError:  # a lone surrogate in what was plain already
        data = to_json(to_jsonable(record), indent=indent)
    if redactor.occurs(data):
        data = to_json(redactor.record(to_jsonable(record)), indent=indent)
    if data.isascii() and b"\x7f" not in data:
        return data + b"\n"
    return _UNSEEN.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), data) + b"\n"


def _replace(path: Path | str, data: bytes, sync: bool) -> None:
    temporary = _beside(path)
    try:
        _fill_and_close(temporary, data, sync)
        os.replace(temporary, path)
    except OSError:
        _remove(temporary)
        raise


def _create(path: Path | str, data: bytes, sync: bool) -> None:
    temporary = _beside(path)
    try:
        _fill_and_close(temporary, data, sync)
        _link(temporary, path, data, sync)
    finally:
        _remove(temporary)


def _link(temporary: str, path: Path | str, data: bytes, sync: bool) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links: exclusive all the same, though not atomic.
        _fill_and_close(path, data, sync)


def _append(path: Path, data: bytes, sync: bool) -> None:
    with locked(path) as descriptor:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            # A process died within its line: end that line, so that only it is lost. Without locks
            # this may be another's line, and add an empty one, which readers pass over.
            data = b"\n" + data
        written = os.write(descriptor, data)
        if written != len(data):
            raise OSError(f"{path}: only {written} of {len(data)} bytes of a line were written")
        if sync:
            os.fsync(descriptor)


def _beside(path: Path | str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{secrets.token_hex(4)}.tmp")


def _remove(path: Path | str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _fill(path: Path | str, data: bytes) -> int:
    """Write a new file and return its descriptor, still open."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
    except BaseException:
        os.close(descriptor)
        _remove(path)
        raise
    return descriptor


def _fill_and_close(path: Path | str, data: bytes, sync: bool) -> None:
    descriptor = _fill(path, data)
    try:
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


_WRITING = ".writing-"
_SESSION = ".session-"


@dataclass(frozen=True)
class Writer:
    """A living process of this machine that has a job."""

    pid: int
    session: int
    """Id of the process that its session was started with; the same where that is its only one."""

    @property
    def orphaned(self) -> bool:
        """Whether its session is gone, so that it ends as soon as it has recorded its runs."""
        return not lives(self.session)


def mark(job: Path, session: int | None = None) -> Path:
    """Leave a mark of this process in the folder of ``job``; return its path, to be removed.

    ``session`` is the process that this one works for, if it is another one.
    """
    return _leave(job / f"{_WRITING}{host()}-{os.getpid()}", session)


def claim(job: Path, besides: Collection[int] = frozenset()) -> Writer | None:
    """Take ``job`` for the session of this process, until ``release``.

    Returns the process that has it, if there is one: nothing is taken then. Those with the ids
    ``besides`` may write into it meanwhile. Of two sessions that claim it at the same time one is
    given it. Raises ``OSError``.
    """
    with locked(job / CONFIG_FILE):
        others = [
            one
            for one in writers(job)
            if os.getpid() not in (one.pid, one.session) and one.pid not in besides
        ]
        if not others:
            _leave(job / f"{_SESSION}{host()}-{os.getpid()}", None)
        return min(others, key=lambda one: one.pid != one.session, default=None)


def release(job: Path) -> None:
    """Give back what this process has claimed."""
    with suppress(OSError):
        (job / f"{_SESSION}{host()}-{os.getpid()}").unlink()


def marks(job: Path) -> list[Path]:
    """Return the marks of processes that have not ended as they should, or not yet."""
    return _found(job, _WRITING)


def writers(job: Path) -> Iterator[Writer]:
    """Yield the living processes of this machine that have ``job``."""
    for path in _found(job, _WRITING, _SESSION):
        pid = _pid(path)
        if pid is None:
            continue
        noted = _noted(path)
        if _is_alive(pid, noted):
            session = noted.get("session")
            yield Writer(pid, session if isinstance(session, int) and session > 0 else pid)


def forget_dead_writers(job: Path) -> None:
    """Remove the marks of processes of this machine that are no more."""
    for path in _found(job, _WRITING, _SESSION):
        pid = _pid(path)
        if pid is not None and not _is_alive(pid, _noted(path)):
            path.unlink(missing_ok=True)


def is_writing(job: Path, process: str) -> bool:
    """Whether ``process``, which is ``HOST-PID``, may record more attempts of ``job``.

    One of another machine may until it has removed its mark.
    """
    path = job / f"{_WRITING}{process}"
    if not path.exists():
        return False
    pid = _pid(path)
    return pid is None or _is_alive(pid, _noted(path))


def written_now(job: Path) -> bool:
    """Whether a process of this machine is writing into ``job``."""
    marks = ((_pid(path), path) for path in _found(job, _WRITING))
    return any(pid is not None and _is_alive(pid, _noted(path)) for pid, path in marks)


def _leave(path: Path, session: int | None) -> Path:
    pid = os.getpid()
    noted = {"started": started_at(pid), "session": session or pid}
    path.write_text(json.dumps(noted), encoding="utf-8")
    return path


def _found(job: Path, *prefixes: str) -> list[Path]:
    with os.scandir(job) as found:
        return [job / entry.name for entry in found if entry.name.startswith(prefixes)]


def _pid(path: Path) -> int | None:
    """Return the process of a mark; ``None`` for one of another machine."""
    where, _, pid = path.name.split("-", 1)[1].rpartition("-")
    return int(pid) if where == host() and pid.isdecimal() and pid.isascii() else None


def _noted(path: Path) -> dict[str, Any]:
    """Return what a mark says; nothing for one of an earlier version, or that is being written."""
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def _is_alive(pid: int, noted: dict[str, Any]) -> bool:
    """Whether the process of that id lives and is the one that left the mark."""
    if not lives(pid):
        return False
    started = noted.get("started")
    # Ids are given again, soon in a container that is started anew.
    return started is None or started == started_at(pid)
