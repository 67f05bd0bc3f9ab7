"""Problems in eval files, each with the place it stands at."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_siren.yamlpos.problems import Problem, printable

__all__ = ["Problem", "SpecError", "printable"]


class SpecError(ValueError):
    """An eval file cannot be used; ``problems`` holds all that is wrong with it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))
