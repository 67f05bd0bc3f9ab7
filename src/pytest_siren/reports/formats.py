"""Which kinds of report there are, and which file names ask for them. Standard library only."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from pytest_siren.jobs.redact import ENVIRONMENT
from pytest_siren.jobs.writing.write import FolderError, make_folder

if TYPE_CHECKING:
    from pytest_siren.reports.data import ReportData


class Kind(StrEnum):
    """A kind of report, by the function ``write(target, data)`` that writes it."""

    HTML = "pytest_siren.reports.html:write_html"
    MARKDOWN = "pytest_siren.reports.markdown:write_markdown"
    SARIF = "pytest_siren.reports.sarif:write_sarif"


SUFFIXES = {
    ".html": Kind.HTML,
    ".md": Kind.MARKDOWN,
    ".sarif": Kind.SARIF,
    ".sarif.json": Kind.SARIF,
}


class ReportError(Exception):
    """A report cannot be made, or not be written."""


@dataclass(frozen=True)
class Target:
    """A report that somebody asked for."""

    path: Path
    kind: Kind

    @classmethod
    def of(cls, text: str, base: Path) -> Target:
        """Return what ``text``, a path relative to ``base``, asks for.

        A folder, which is a name that ends in a slash, has no suffix or is one already, gets an
        HTML page. Raises ``ReportError`` for an unknown suffix and for an empty name.
        """
        if not text.strip():
            raise ReportError("the name of the report is empty")
        path = base / text
        name = path.name.lower()
        if text.endswith(("/", os.sep)) or os.path.isdir(path) or not path.suffix:
            return cls(path, Kind.HTML)
        for suffix, kind in SUFFIXES.items():
            if name.endswith(suffix):
                return cls(path, kind)
        known = ", ".join(SUFFIXES)
        raise ReportError(
            f"{text}: no report is made for a file of this kind; known are {known}, and a folder "
            "(for a page with its transcripts)"
        )

    @property
    def file(self) -> Path:
        """The file that is to be opened; of a page in a folder, the page."""
        in_folder = self.kind is Kind.HTML and not self.path.name.lower().endswith(".html")
        return self.path / "index.html" if in_folder or os.path.isdir(self.path) else self.path

    def write(self, data: ReportData) -> None:
        """Make the report. Raises ``ReportError`` when it cannot be written."""
        write: Callable[[Path, ReportData], Any] = resolve_name(self.kind)
        try:
            write(self.path, data)
        except OSError as error:
            raise ReportError(f"cannot write {self.path}: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    if isinstance(error, FolderError) or not error.filename:
        return str(error)
    return f"{error.filename}: {error.strerror}"


def write_whole(target: Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``target``, whose folder is made if need be. Raises ``OSError``.

    Long secrets of the environment are replaced, wherever they come from. A reader finds the old
    file or the new one. What is no regular file, such as ``/dev/stdout``, is written into.
    """
    data = ENVIRONMENT.strong(text).encode("utf-8", "backslashreplace")
    make_folder(target.parent)
    if target.exists() and not target.is_file():
        target.write_bytes(data)
        return
    made = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}")
    try:
        made.write_bytes(data)
        os.replace(made, target)
    except OSError:
        made.unlink(missing_ok=True)
        raise
