"""Where a task stands, and problems reported there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pytest_siren.datasets.inline.tasks import TaskConfig
from pytest_siren.evaluators.problems import Loc, located

AnyTask = TypeVar("AnyTask", bound=TaskConfig, covariant=True)

_MOST = 20
"""Problems that one error lists."""


class InlineError(ValueError):
    """An inline dataset cannot be made.

    Each line of the message begins with its place: ``tasks.csv:3`` or ``dataset.config.tools[0]``.
    """

    def __init__(self, lines: Sequence[str], problems: Sequence[tuple[Loc, str]] = ()) -> None:
        more = len(lines) - _MOST
        shown = [*lines[:_MOST], f"... and {more} more"] if more > 0 else lines
        super().__init__("\n".join(shown))
        self.problems = tuple(problems)
        """The problems that lie in the configuration, with their places in it."""


@dataclass(frozen=True)
class Place:
    """A place in the dataset's configuration, or in a tasks file."""

    text: str
    """As a person finds it: ``tasks[3]`` or ``tasks.csv:7``."""
    loc: Loc | None
    """Place in the configuration; ``None`` for a file."""


@dataclass(frozen=True)
class Placed(Generic[AnyTask]):
    """A task with its place."""

    task: AnyTask
    place: Place


def placed(key: str, tasks: Sequence[AnyTask]) -> list[Placed[AnyTask]]:
    """Return the tasks that stand under ``key`` of the configuration."""
    return [
        Placed(task, Place(f"{key}[{index}]", (key, index))) for index, task in enumerate(tasks)
    ]


@dataclass
class Problems:
    """Problems found so far; all of them are reported at once."""

    _in_config: list[tuple[Loc, str]] = field(default_factory=list)
    _in_files: list[str] = field(default_factory=list)

    def add(self, place: Place, keys: Loc, message: str) -> None:
        """Report ``message`` for what stands under ``keys`` at ``place``."""
        if place.loc is None:
            self._in_files.append(line_of(place.text, keys, message))
        else:
            self._in_config.append(((*place.loc, *keys), message))

    def raise_invalid(self) -> None:
        """Raise what pydantic expects of a validator, if there are problems."""
        if self._in_config:
            raise located("inline", self._in_config)

    def raise_any(self) -> None:
        """Raise ``InlineError`` if there are problems."""
        lines = [line_of(_text(loc), (), message) for loc, message in self._in_config]
        if lines or self._in_files:
            raise InlineError([*lines, *self._in_files], self._in_config)


def line_of(place: str, keys: Loc, message: str) -> str:
    """Return ``tasks.csv:3: evaluators.x.value: message``."""
    return ": ".join(filter(None, (place, dotted(keys), message)))


def dotted(keys: Loc) -> str:
    """Return ``calls[0].name`` for ``("calls", 0, "name")``."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")


def _text(loc: Loc) -> str:
    return dotted(("dataset", "config", *loc))
