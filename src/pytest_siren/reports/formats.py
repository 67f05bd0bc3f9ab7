"""The kinds of reports and their file names. Standard library only."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from pytest_siren.jobs.redact import ENVIRONMENT
from pytest_siren.jobs.writing.write import FolderError, make_folder

if TYPE_CHECKING:
    from pytest_siren.evaluation.components import Registry
    from pytest_siren.reports.data import ReportData


HTML, MARKDOWN, SARIF = "html", "markdown", "sarif"
_SHIPPED = (HTML, MARKDOWN, SARIF)
SUFFIXES = {".html": HTML, ".md": MARKDOWN, ".sarif": SARIF, ".sarif.json": SARIF}
_NAMED = re.compile(r"([A-Za-z_][\w.-]+):(.+)", re.DOTALL)
"""A name of more than one letter, which is a drive elsewhere, and a path."""

ReportWriter: TypeAlias = "Callable[[Path, ReportData], object]"
"""Writes a report to a path. What it raises becomes a message, and the session fails."""


class ReportError(Exception):
    """A report cannot be made, or not be written."""


@dataclass(frozen=True)
class Target:
    """A report to write: its kind and its path."""

    path: Path
    format: str
    """Name of a component of the kind ``REPORT``."""
    registry: Callable[[], Registry] | None = None
    """Where it is looked up; ``None`` for one that ships."""

    @classmethod
    def of(cls, text: str, base: Path, registry: Callable[[], Registry] | None = None) -> Target:
        """Return what ``text`` asks for: a path relative to ``base``, or ``NAME:PATH``.

        ``registry`` gives the formats that NAME may be. Without a NAME the suffix decides: a
        folder, which is a name that ends in a slash, has no suffix or is one already, gets an HTML
        page. Raises ``ReportError`` for an unknown suffix or NAME, and for an empty path.
        """
        if not text.strip():
            raise ReportError("the name of the report is empty")
        if registry is not None and (named := _NAMED.fullmatch(text)):
            if (found := _named(named[1], text, registry)) is not None:
                return cls(base / named[2], found, registry)
        path = base / text
        if text.endswith(("/", os.sep)) or os.path.isdir(path) or not path.suffix:
            return cls(path, HTML)
        if (found := _by_suffix(text)) is not None:
            return cls(path, found)
        known = ", ".join(SUFFIXES)
        raise ReportError(
            f"{text}: no report is made for a file of this kind; known are {known}, and a folder "
            "(for a page with its transcripts); NAME:PATH asks for the format NAME"
        )

    @property
    def file(self) -> Path:
        """The file to open; for a page in a folder, the page."""
        in_folder = self.format == HTML and not self.path.name.lower().endswith(".html")
        return self.path / "index.html" if in_folder or os.path.isdir(self.path) else self.path

    def write(self, data: ReportData) -> None:
        """Write the report. Raises ``ReportError`` if that fails."""
        from pytest_siren.evaluation.components import Kind, Registry

        registry = Registry() if self.registry is None else self.registry()
        ships = self.format in _SHIPPED
        try:
            component = registry.find(Kind.REPORT, self.format)
            write: ReportWriter = component.build(component.config(), self.path.parent)
            make_folder(self.path.parent)
            write(self.path, data)
        except OSError as error:
            raise ReportError(f"cannot write {self.path}: {_reason(error)}") from error
        except Exception as error:
            if ships:
                raise
            message = f"the report format {self.format!r} failed for {self.path}"
            raise ReportError(f"{message}: {type(error).__name__}: {error}") from error


def _by_suffix(text: str) -> str | None:
    name = Path(text).name.lower()
    return next((kind for suffix, kind in SUFFIXES.items() if name.endswith(suffix)), None)


def _named(name: str, text: str, registry: Callable[[], Registry]) -> str | None:
    """Return the format ``name``; ``None`` where ``text`` is a path with a colon in it.

    Raises ``ReportError`` for what is more likely a misspelt name.
    """
    from pytest_siren.evaluation.components import Kind

    known = registry().names(Kind.REPORT)
    if name in known:
        return name
    nearest = get_close_matches(name, known, n=1)
    if not nearest and _by_suffix(text) is not None:
        return None
    hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
    raise ReportError(f"{text}: unknown report format {name!r}{hint}; known: {', '.join(known)}")


def _reason(error: OSError) -> str:
    if isinstance(error, FolderError) or not error.filename:
        return str(error)
    return f"{error.filename}: {error.strerror}"


def write_whole(target: Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``target``, whose folder is made if need be. Raises ``OSError``.

    Long secrets of the environment are replaced, wherever they come from. A reader finds the old
    file or the new one. A target that is no regular file, such as ``/dev/stdout``, is written to.
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
