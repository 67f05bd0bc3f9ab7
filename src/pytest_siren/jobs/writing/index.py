"""The index of a job as it is written: a file for each writer, and their lines in ``index.jsonl``.

No lock is needed to record an attempt. ``index.jsonl`` is replaced whole by the process that
merges; where the file system has locks, two that merge at once wait for each other. Without locks
the later one looks whether the file is still the one that it read. Should a line get lost in spite
of that, no attempt is: the record is the truth, readers say that the index lacks it, and repairing
adds it.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from pydantic_core import from_json

from pytest_siren.jobs.reading.index_files import RawLine, merged_lines
from pytest_siren.jobs.records.naming import DROPPED_FILE, INDEX_FILE, INDEX_FOLDER, writer_files
from pytest_siren.jobs.redact import ENVIRONMENT, Redactor
from pytest_siren.jobs.writing.write import append_lines, is_writing, json_lines
from pytest_siren.sharing.state import host

_NEW = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_OLD = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
_TRIES = 10
"""How often a merge begins anew because another process has replaced ``index.jsonl``."""


class IndexWriter:
    """Adds lines to the index of one job, in a file that no other process writes to."""

    def __init__(self, job: Path) -> None:
        self._job = job
        self._path: Path | None = None
        self._process = 0
        self._torn = False
        self._lock = threading.Lock()

    def append(
        self,
        records: Iterable[Mapping[str, Any]],
        *,
        sync: bool = False,
        redactor: Redactor = ENVIRONMENT,
    ) -> None:
        """Add a line for each of ``records``, all of them with one write.

        With ``sync`` they have reached the disk. Raises ``OSError`` when the disk refuses.
        """
        data = json_lines(records, redactor)
        with self._lock:
            descriptor = self._open()
            try:
                self._write(descriptor, data)
                if sync:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def merge(self) -> None:
        """Merge the index, with what this process has added; its other threads wait meanwhile.

        Raises ``OSError``.
        """
        with self._lock:
            merge_index(self._job)

    def _write(self, descriptor: int, data: bytes) -> None:
        # A line that the disk had no room for ends here, so that only it is lost.
        data = b"\n" + data if self._torn else data
        self._torn = True
        written = os.write(descriptor, data)
        if written != len(data):
            raise OSError(f"{self._path}: only {written} of {len(data)} bytes were written")
        self._torn = False

    def _open(self) -> int:
        if self._path is not None and self._process == os.getpid():
            # It is gone where its lines have been merged.
            with suppress(FileNotFoundError):
                return os.open(self._path, _OLD)
        self._process, self._torn = os.getpid(), False
        folder = self._job / INDEX_FOLDER
        number = 0
        while True:
            self._path = folder / f"{host()}-{self._process}-{number}.jsonl"
            try:
                return os.open(self._path, _NEW, 0o666)
            except FileExistsError:
                # Of an earlier process that had the same id.
                number += 1
            except FileNotFoundError:
                # Made here, and not with the job: whoever merges removes it.
                with suppress(FileExistsError):
                    folder.mkdir()


def merge_indexes(jobs: Iterable[Path]) -> None:
    """Merge the index of each of ``jobs``. Raises ``OSError``."""
    for job in jobs:
        merge_index(job)


def merge_index(job: Path) -> None:
    """Move the lines of writers of ``job`` that have ended to ``index.jsonl``.

    That file is complete then for tools that know no other. A process has ended when it has removed
    its mark, or left it and is no more; the mark stays, for ``repair`` to look after what it
    recorded last. Raises ``OSError``.
    """
    if not _ended(job):
        return
    with index_locked(job):
        for _ in range(_TRIES):
            paths = _ended(job)
            if not paths or _merged(job, paths):
                break
    # Not where another process still has a file in it.
    with suppress(OSError):
        os.rmdir(job / INDEX_FOLDER)


@contextmanager
def index_locked(job: Path) -> Iterator[None]:
    """Keep other processes from merging the index of ``job``, where the file system has locks."""
    descriptor = os.open(job, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _ended(job: Path) -> list[Path]:
    """Return the files of writers that add nothing any more."""
    return [path for path in writer_files(job) if not is_writing(job, path.name.rpartition("-")[0])]


def _merged(job: Path, paths: Sequence[Path]) -> bool:
    """Merge the files ``paths``; tell whether nobody else replaced the index meanwhile."""
    index = job / INDEX_FILE
    with ExitStack() as opened:
        files = []
        for path in paths:
            with suppress(FileNotFoundError):
                files.append(opened.enter_context(path.open("rb")))
        before = opened.enter_context(index.open("rb")) if index.exists() else None
        if before is None and len(files) == 1 and not _tail(files[0]):
            return _linked(paths[0], index)
        known = _known(before, files)
        for file in files:
            file.seek(0)
        temporary = job / f".{INDEX_FILE}.{secrets.token_hex(4)}.tmp"
        try:
            _write_merged(temporary, before, merged_lines(files), known)
            if not _is_still(index, before):
                return False
            os.replace(temporary, index)
        finally:
            temporary.unlink(missing_ok=True)
        torn = [tail for tail in map(_tail, files) if tail]
    if torn:
        append_lines(job / DROPPED_FILE, torn)
    for path in paths:
        path.unlink(missing_ok=True)
    return True


def _linked(path: Path, index: Path) -> bool:
    """Let the file of the only writer be the index, which is not there; tell if it is now."""
    try:
        os.link(path, index)
    except FileExistsError:
        return False
    except OSError:
        # A file system without hard links; whoever merges at the same time renames the same file.
        with suppress(FileNotFoundError):
            os.rename(path, index)
        return True
    path.unlink(missing_ok=True)
    return True


def _write_merged(
    path: Path, before: BinaryIO | None, lines: Iterator[RawLine], known: Collection[str]
) -> None:
    with path.open("xb") as file:
        if before is not None:
            _copy(before, file)
        for line in lines:
            if not known or _place(line.text) not in known:
                file.write(line.text + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    size = os.fstat(source.fileno()).st_size
    copied = 0
    while copied < size:
        copied += os.sendfile(target.fileno(), source.fileno(), copied, size - copied)
    if size and os.pread(source.fileno(), 1, size - 1) != b"\n":
        os.write(target.fileno(), b"\n")
    target.seek(0, os.SEEK_END)


def _known(before: BinaryIO | None, files: Iterable[BinaryIO]) -> set[str]:
    """Return the places that the index names, if any file may have been merged into it before.

    That is so where a process was killed between merging and removing the file. The first line of a
    file tells.
    """
    if before is None or not os.fstat(before.fileno()).st_size:
        return set()
    with mmap.mmap(before.fileno(), 0, access=mmap.ACCESS_READ) as index:
        firsts = (_place(file.readline()) for file in files)
        if all(not place or index.find(place.encode()) < 0 for place in firsts):
            return set()
    before.seek(0)
    found = {_place(line) for line in before}
    before.seek(0)
    return found - {""}


def _place(line: bytes) -> str:
    """Return the folder that a line of an index names; an empty text where it names none."""
    try:
        document = from_json(line)
    except ValueError:
        return ""
    place = document.get("path") if isinstance(document, dict) else None
    return place if isinstance(place, str) else ""


def _tail(file: BinaryIO) -> bytes:
    """Return what follows the last newline of ``file``."""
    size = os.fstat(file.fileno()).st_size
    data = os.pread(file.fileno(), 1, size - 1) if size else b"\n"
    if data == b"\n":
        return b""
    file.seek(0)
    return file.read().rpartition(b"\n")[2]


def _is_still(path: Path, file: BinaryIO | None) -> bool:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return file is None
    return file is not None and os.path.samestat(found, os.fstat(file.fileno()))
