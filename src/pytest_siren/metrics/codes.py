"""Texts as numbers: a column of a million names needs a few bytes for each."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

T = TypeVar("T", bound=Hashable)
MISSING = -1
"""Stands for a value that is not there, as in pandas."""


class Codes(Generic[T]):
    """Numbers for values, in the order in which they were first seen; ``None`` is ``MISSING``."""

    def __init__(self) -> None:
        self._numbers: dict[T | None, int] = {None: MISSING}

    def of(self, values: Sequence[T | None]) -> npt.NDArray[np.int64]:
        """Return the number of each value, shape ``(len(values),)``."""
        numbers = self._numbers
        # The values in their order, for a set's order differs from one process to the next.
        for value in dict.fromkeys(values):
            if value not in numbers:
                numbers[value] = len(numbers) - 1
        return np.fromiter(map(numbers.__getitem__, values), np.int64, len(values))

    @property
    def values(self) -> list[T]:
        """The values, each at the place of its number."""
        return [value for value in self._numbers if value is not None]

    def column(self, codes: npt.NDArray[np.int64], text: Callable[[T], Any] = str) -> Any:
        """Return a pandas categorical of ``codes``; ``text`` tells what a value is shown as."""
        return categorical(codes, [text(value) for value in self.values])


def categorical(codes: npt.NDArray[np.int64], values: Sequence[str | None]) -> pd.Categorical:
    """Return the categorical of the values at ``codes``; several places may hold the same value.

    ``MISSING`` codes, and ``None`` among ``values``, are missing.
    """
    known = sorted({value for value in values if value is not None})
    place = {value: number for number, value in enumerate(known)}
    moved = np.asarray(
        [MISSING if value is None else place[value] for value in values] + [MISSING],
        dtype=np.int64,
    )
    # The code -1 reads the last place, which is missing.
    return pd.Categorical.from_codes(moved[codes], categories=pd.Index(known, dtype=object))


def parts(task_id: str) -> tuple[str, str | None]:
    """Return the benign and the malicious task of a couple.

    An id that holds more than one colon cannot be taken apart, and counts as a benign task's.
    """
    ids = task_id.split(":")
    return (ids[0], ids[1]) if len(ids) == 2 else (task_id, None)


def task_columns(
    codes: npt.NDArray[np.int64], tasks: Sequence[str], attacked: npt.NDArray[np.bool_]
) -> dict[str, pd.Categorical]:
    """Return the columns ``task_id``, ``benign_task`` and ``malicious_task``."""
    couples = [parts(task) for task in tasks]
    # A job without an attack has tasks whose ids may hold colons of their own.
    either = [*tasks, *(benign for benign, _ in couples)]
    malicious = [one for _, one in couples]
    return {
        "task_id": categorical(codes, tasks),
        "benign_task": categorical(np.where(attacked, codes + len(tasks), codes), either),
        "malicious_task": categorical(np.where(attacked, codes, MISSING), malicious),
    }
