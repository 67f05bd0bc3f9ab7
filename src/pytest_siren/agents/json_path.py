"""Where a text is in a JSON document: ``choices[0].message.content``."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator

from pytest_siren.evaluators.base import problem

_STEP = re.compile(r"\.?(?:([A-Za-z_][\w-]*)|\[(-?\d+)\]|\[(\"(?:[^\"\\]|\\.)*\")\])")
_QUOTED = 200
"""Characters of a document in messages."""


class NothingThereError(LookupError):
    """The document has nothing at the path."""


def steps(path: str) -> list[str | int]:
    """Return the keys and indexes of ``path``. Raises ``ValueError`` for what is no path."""
    rest, found = path.removeprefix("$"), list[str | int]()
    while rest:
        step = _STEP.match(rest)
        if step is None:
            raise ValueError(f"{path!r} is no path such as choices[0].message.content")
        key, index, quoted = step.groups()
        found.append(key if key else int(index) if index else json.loads(quoted))
        rest = rest[step.end() :]
    return found


def look_up(path: str, document: Any) -> Any:
    """Return what ``document`` has at ``path``. Raises ``NothingThereError``."""
    found = document
    for step in steps(path):
        try:
            if isinstance(found, str):
                raise TypeError
            found = found[step]
        except (KeyError, IndexError, TypeError):
            raise NothingThereError(f"no {path} in {quoted(json.dumps(document))}") from None
    return found


def quoted(text: str) -> str:
    """Return the beginning of ``text`` on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _QUOTED else f"{line[:_QUOTED]}..."


def _check(path: str) -> str:
    try:
        steps(path)
    except ValueError as error:
        raise problem(str(error)) from None
    return path


JsonPath: TypeAlias = Annotated[str, AfterValidator(_check)]
"""Keys and indexes: ``choices[0].message.content``, also with ``$.`` before and ``["a key"]``."""
