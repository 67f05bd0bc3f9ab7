"""Writes the page and the files of its transcripts."""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from pytest_siren.jobs.writing.write import make_folder
from pytest_siren.reports.data import ReportData
from pytest_siren.reports.html.chunks import (
    MOST_BYTES_EMBEDDED,
    MOST_EMBEDDED,
    Embedded,
    Files,
    remove_others,
    write_files,
)
from pytest_siren.reports.html.content import content
from pytest_siren.reports.html.encode import script_json
from pytest_siren.reports.html.page import render
from pytest_siren.reports.html.pagedata import pagedata
from pytest_siren.reports.html.rows import groupings
from pytest_siren.reports.html.transcript import transcript


def page_path(target: Path) -> Path:
    """Return the file of the page: ``target``, or ``index.html`` in it if it names a folder."""
    in_folder = target.suffix.lower() != ".html" or target.is_dir()
    return target / "index.html" if in_folder else target


def write_html(target: Path, data: ReportData) -> None:
    """Write the page into ``target``, a file ``*.html`` or a folder.

    The transcripts of more than a few runs go into a folder beside the page, which is called after
    it. An earlier page is replaced, at once when all is written. Runs are read one after the other,
    so memory does not grow with transcripts. Raises ``OSError``.
    """
    page = page_path(target)
    make_folder(page.parent)
    folder = page.with_name(f"{page.stem}_files")
    token = secrets.token_hex(4)
    stored = _store(_transcripts(data), folder, token)
    nonce = secrets.token_urlsafe(16) if isinstance(stored, Files) else None
    tables = groupings(data.runs, data.cluster, data.passes)
    text = render(content(data, tables), pagedata(data, tables, stored, nonce), nonce)
    unfinished = page.with_name(f".{page.name}.{token}")
    unfinished.write_text(text, encoding="utf-8", errors="xmlcharrefreplace", newline="\n")
    os.replace(unfinished, page)
    remove_others(folder, token if isinstance(stored, Files) else None)


def _store(transcripts: Iterator[Any], folder: Path, token: str) -> Embedded | Files:
    """Return the transcripts for the page if they are few and small, else write files."""
    first: list[Any] = []
    size = 0
    for one in transcripts:
        first.append(one)
        size += len(script_json(one))
        if len(first) > MOST_EMBEDDED or size > MOST_BYTES_EMBEDDED:
            return write_files(itertools.chain(first, transcripts), folder, token)
    return Embedded(first)


def _transcripts(data: ReportData) -> Iterator[Any]:
    folders = job_folders(data)
    for job, path in zip(data.runs["job"], data.runs["path"], strict=True):
        if pd.isna(path):
            yield {"problems": ["the table of runs does not say where this run is recorded"]}
        else:
            shown = transcript(folders[job] / str(path))
            inside = f"{data.root}{os.sep}"
            shown["problems"] = [one.replace(inside, "") for one in shown["problems"]]
            yield shown


def job_folders(data: ReportData) -> dict[str, Path]:
    """Return the folder of each job in the table of runs."""
    known = {str(folder): folder for folder in data.folders}
    jobs = [str(job) for job in data.runs["job"].cat.categories]
    return {job: known.get(job) or data.root / job for job in jobs}
