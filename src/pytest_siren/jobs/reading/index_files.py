"""The index of a job, which consists of several files.

A process that records attempts adds lines to a file of its own in ``.index/``, to which no other
process writes. When it has ended, these lines are moved to ``index.jsonl``. So readers take both,
and a line that is moved meanwhile counts once.
"""

from __future__ import annotations

import heapq
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pytest_siren.jobs.records.naming import INDEX_FILE, writer_files

_TIMESTAMP = re.compile(rb'"timestamp": ?"([^"]*)"')


@dataclass(frozen=True)
class RawLine:
    """A line of a writer's file."""

    path: Path
    number: int
    """1-based."""
    text: bytes
    """Without the newline."""


@dataclass(frozen=True)
class IndexFiles:
    """The open files of an index."""

    merged: BinaryIO | None
    """``index.jsonl``; ``None`` if it does not exist yet."""
    writers: Sequence[BinaryIO]

    def lines(self) -> Iterator[RawLine]:
        """Yield the lines of all writers in chronological order.

        What follows the last newline of a file is no line yet, or its writer died within it.
        """
        return merged_lines(self.writers)


def merged_lines(files: Sequence[BinaryIO]) -> Iterator[RawLine]:
    """Yield the complete lines of ``files`` in chronological order, each file's in file order."""
    if len(files) == 1:
        yield from _lines(files[0])
        return
    yield from heapq.merge(*map(_lines, files), key=_time)


def _lines(file: BinaryIO) -> Iterator[RawLine]:
    path = Path(file.name)
    for number, text in enumerate(file, start=1):
        if text.endswith(b"\n"):
            yield RawLine(path, number, text[:-1])


def _time(line: RawLine) -> bytes:
    found = _TIMESTAMP.search(line.text)
    return found[1] if found else b""


@contextmanager
def opened_index(job: Path) -> Iterator[IndexFiles]:
    """Open the files of the index of ``job``. Raises ``OSError``.

    First those of writers: a line that is moved meanwhile is then seen at least once.
    """
    with ExitStack() as opened:
        writers = []
        for path in writer_files(job):
            # A file that is gone by now was merged into the file that is opened last.
            with suppress(FileNotFoundError):
                writers.append(opened.enter_context(path.open("rb")))
        merged = None
        if os.path.lexists(job / INDEX_FILE):
            merged = opened.enter_context((job / INDEX_FILE).open("rb"))
        yield IndexFiles(merged, writers)
