"""Where in the user's own code an exception arose."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from pytest_siren.text.words import shown

_INSTALLED = "site-packages"
_PACKAGE = Path(__file__).parents[2]
"""That of the plugin itself."""


def innermost(error: BaseException | None, root: Path) -> str | None:
    """Return file and line of the innermost frame of ``error`` in the user's files below ``root``.

    ``None`` where no code of the user's own took part.
    """
    places = list(_own(error.__traceback__, root)) if error is not None else []
    if not places:
        return None
    frame = places[-1]
    return f"{shown(_file(frame), root).as_posix()}:{frame.tb_lineno}"


def cut(error: BaseException, root: Path) -> BaseException | None:
    """Return ``error`` with a traceback that begins in the user's files below ``root``.

    ``None`` where no code of the user's own took part.
    """
    first = next(_own(error.__traceback__, root), None)
    return None if first is None else error.with_traceback(first)


def _own(frame: TracebackType | None, root: Path) -> Iterator[TracebackType]:
    while frame is not None:
        if is_own(_file(frame), root):
            yield frame
        frame = frame.tb_next


def is_own(file: Path, root: Path) -> bool:
    """Whether ``file`` is one of the user's own below ``root``, neither installed nor of here."""
    if not file.is_relative_to(root) or _INSTALLED in file.parts:
        return False
    others = (Path(sys.prefix), _PACKAGE)
    return not any(other != root and file.is_relative_to(other) for other in others)


def _file(frame: TracebackType) -> Path:
    return Path(frame.tb_frame.f_code.co_filename)
