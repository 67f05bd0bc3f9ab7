"""The transcripts of all runs: inside a small page, in files beside a large one.

A page that was opened from a disk may not read other files, but it may load scripts. So a file
beside the page is a script that does nothing but hand one string to the page.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_siren.jobs.writing.write import make_folder
from pytest_siren.reports.html.encode import script_json

MOST_EMBEDDED = 200
"""Largest number of runs whose transcripts the page itself holds."""
MOST_BYTES_EMBEDDED = 2_000_000
_RUNS = 50
_BYTES = 2_000_000
_FILE = re.compile(r"transcripts-[0-9a-f]{8}-\d+\.js")


@dataclass(frozen=True)
class Embedded:
    """Transcripts inside the page."""

    transcripts: list[Any]


@dataclass(frozen=True)
class Files:
    """Transcripts in files beside the page."""

    folder: str
    token: str
    """Part of each name, so that a page never reads the files of another one."""
    starts: list[int]
    """The first run of each file."""


def write_files(transcripts: Iterable[Any], folder: Path, token: str) -> Files:
    """Write ``transcripts`` into files in ``folder``, a few dozen in each. Raises ``OSError``."""
    make_folder(folder)
    starts: list[int] = []
    for number, (start, batch) in enumerate(_batches(transcripts)):
        text = f"[{','.join(batch)}]"
        script = f"siren.transcripts({number},{script_json(text)});\n"
        (folder / f"transcripts-{token}-{number}.js").write_text(script, encoding="ascii")
        starts.append(start)
    return Files(folder.name, token, starts)


def remove_others(folder: Path, token: str | None) -> None:
    """Remove the files of earlier pages from ``folder``, and no others."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if _FILE.fullmatch(path.name) and path.name.split("-")[1] != token:
            path.unlink()
    if not any(folder.iterdir()):
        shutil.rmtree(folder)


def _batches(transcripts: Iterable[Any]) -> Iterator[tuple[int, list[str]]]:
    """Yield groups of transcripts as JSON, each with the number of its first one."""
    batch: list[str] = []
    start = size = 0
    for position, one in enumerate(transcripts):
        text = script_json(one)
        if batch and (len(batch) == _RUNS or size + len(text) > _BYTES):
            yield start, batch
            start, batch, size = position, [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield start, batch
