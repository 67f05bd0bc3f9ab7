"""The table of runs: what rates, gates, comparisons and reports are computed from."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from pytest_siren.payloads import RunReport


CATEGORIES = (
    *("dataset", "suite", "agent", "model", "model_kind", "attack", "job", "identity"),
    *("task_id", "benign_task", "malicious_task", "vectors", "status", "error_type"),
    *("finish", "decided"),
)
INTEGERS = ("run_index", "attempts", "input_tokens", "output_tokens", "unpriced")
FLOATS = ("benign_score", "attack_score", "cost", "duration", "exposed")
OPTIONAL = ("decided", "exposed", "finish")
"""Columns that need not be given: nothing is known of them then."""
COLUMNS = (*CATEGORIES, *INTEGERS, *FLOATS)


def table(columns: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """Return the table of ``columns``, all of which must be there and of the same length.

    ``None`` stands for what is missing. Further columns are kept as they are. Raises ``KeyError``
    for a column that is not given and not in ``OPTIONAL``; without ``decided`` no task ended early.
    """
    nothing = [None] * len(columns["run_index"])
    columns = {**dict.fromkeys(OPTIONAL, nothing), **columns}
    made: dict[str, Any] = {}
    for name in CATEGORIES:
        made[name] = pd.Categorical(columns[name])
    for name in INTEGERS:
        made[name] = np.asarray(columns[name], dtype=np.int64)
    for name in FLOATS:
        made[name] = np.asarray(columns[name], dtype=np.float64)
    others = {name: values for name, values in columns.items() if name not in made}
    return pd.DataFrame({**made, **others})


def empty() -> pd.DataFrame:
    """Return the table of no runs."""
    return table({name: [] for name in COLUMNS})


T = TypeVar("T", bound=Hashable)
MISSING = -1
"""Stands for a value that is not there, as in pandas."""


class LabelEncoder(Generic[T]):
    """Numbers for values, in the order in which they were first seen; ``None`` is ``MISSING``."""

    def __init__(self) -> None:
        self._numbers: dict[T | None, int] = {None: MISSING}

    def encode(self, values: Sequence[T | None]) -> npt.NDArray[np.int64]:
        """Return the number of each value, shape ``(len(values),)``."""
        numbers = self._numbers
        # The values in their order, for a set's order differs from one process to the next.
        new = [value for value in dict.fromkeys(values) if value not in numbers]
        first = len(numbers) - 1
        numbers.update(zip(new, range(first, first + len(new)), strict=True))
        if len(new) == len(values):
            return np.arange(first, first + len(new))
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


def split_task_id(task_id: str) -> tuple[str, str | None]:
    """Return the benign and the malicious task of a couple.

    An id that holds more than one colon cannot be taken apart, and counts as a benign task's.
    """
    ids = task_id.split(":")
    return (ids[0], ids[1]) if len(ids) == 2 else (task_id, None)


def task_columns(
    codes: npt.NDArray[np.int64], tasks: Sequence[str], attacked: npt.NDArray[np.bool_]
) -> dict[str, pd.Categorical]:
    """Return the columns ``task_id``, ``benign_task`` and ``malicious_task``."""
    couples = [split_task_id(task) for task in tasks]
    # A job without an attack has tasks whose ids may hold colons of their own.
    either = [*tasks, *(benign for benign, _ in couples)]
    malicious = [one for _, one in couples]
    return {
        "task_id": categorical(codes, tasks),
        "benign_task": categorical(np.where(attacked, codes + len(tasks), codes), either),
        "malicious_task": categorical(np.where(attacked, codes, MISSING), malicious),
    }


Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Attempts:
    """Attempts in the order of time; every array has the shape ``(attempts,)``."""

    run: Ints
    """Which run it is of: a number from 0, none left out."""
    tries: Ints
    """Attempts that this one stands for, itself among them."""
    input_tokens: Ints
    output_tokens: Ints
    cost: Floats
    """US dollars; NaN where it is unknown."""
    unpriced: Ints
    """Attempts whose cost is unknown."""


@dataclass(frozen=True)
class RunTotals:
    """What the attempts at each run come to; every array has the shape ``(runs,)``."""

    attempts: Ints
    input_tokens: Ints
    output_tokens: Ints
    cost: Floats
    """US dollars of the attempts whose cost is known."""
    unpriced: Ints


def aggregate_attempts(attempts: Attempts, runs: int) -> RunTotals:
    """Add up what all attempts at each of ``runs`` runs took."""
    cost: Floats = np.zeros(runs)
    np.add.at(cost, attempts.run, np.nan_to_num(attempts.cost))
    return RunTotals(
        attempts=_sum(attempts.run, attempts.tries, runs),
        input_tokens=_sum(attempts.run, attempts.input_tokens, runs),
        output_tokens=_sum(attempts.run, attempts.output_tokens, runs),
        cost=cost,
        unpriced=_sum(attempts.run, attempts.unpriced, runs),
    )


def last(run: Ints, runs: int) -> Ints:
    """Return the position of the last attempt at each run."""
    found = np.zeros(runs, dtype=np.int64)
    # Of several values for one place, the last stays.
    found[run] = np.arange(len(run))
    return found


def first_scored(run: Ints, scored: npt.NDArray[np.bool_], runs: int) -> Ints:
    """Return the position of the first attempt with a score at each run, else of the last one."""
    found = last(run, runs)
    places = np.flatnonzero(scored)[::-1]
    found[run[places]] = places
    return found


def _sum(run: Ints, values: Ints, runs: int) -> Ints:
    found = np.zeros(runs, dtype=np.int64)
    np.add.at(found, run, values)
    return found


_TEXTS = ("dataset", "suite", "agent", "model", "model_kind", "attack", "job", "identity")


def runs_of(reports: Iterable[RunReport], decided: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return the table of ``metrics/frame.py`` for the runs of ``reports``.

    ``decided`` holds what that column says, by identity of the job. Of several reports of a run the
    last attempt counts, as in the summary of a session.
    """
    told = sorted(reports, key=lambda report: report.attempt)
    if not told:
        return empty()
    keys = dict.fromkeys((one.job, one.task_id, one.run_index) for one in told)
    run = LabelEncoder[tuple[str, str, int]]()
    number = run.encode([(one.job, one.task_id, one.run_index) for one in told])
    sums = aggregate_attempts(_attempts(told, number), len(keys))
    chosen = [told[place] for place in last(number, len(keys))]
    columns: dict[str, Any] = {name: _texts(chosen, name) for name in _TEXTS}
    tasks = LabelEncoder[str]()
    codes = tasks.encode([one.task_id for one in chosen])
    attacked = np.asarray([one.attack is not None for one in chosen], dtype=np.bool_)
    columns |= task_columns(codes, tasks.values, attacked)
    columns |= vars(sums)
    columns["decided"] = [(decided or {}).get(one.identity) for one in chosen]
    columns["vectors"] = [" ".join(one.vectors) if one.vectors else None for one in chosen]
    columns["run_index"] = [one.run_index for one in chosen]
    columns["status"] = [one.status for one in chosen]
    columns["benign_score"] = [one.benign_score for one in chosen]
    columns["attack_score"] = [one.attack_score for one in chosen]
    columns["error_type"] = [one.error_type if one.status == "error" else None for one in chosen]
    columns["exposed"] = [one.exposed for one in chosen]
    columns["finish"] = [one.finish for one in chosen]
    columns["duration"] = [one.duration for one in chosen]
    return table(columns)


def _attempts(told: list[RunReport], run: Any) -> Attempts:
    return Attempts(
        run=run,
        tries=np.asarray([1 + one.other_attempts for one in told]),
        input_tokens=np.asarray([one.input_tokens + one.other_input_tokens for one in told]),
        output_tokens=np.asarray([one.output_tokens + one.other_output_tokens for one in told]),
        cost=np.asarray([(one.cost or 0.0) + one.other_cost for one in told]),
        unpriced=np.asarray([(one.cost is None) + one.other_unpriced for one in told]),
    )


def _texts(chosen: list[RunReport], name: str) -> Any:
    codes = LabelEncoder[str]()
    return codes.column(codes.encode([getattr(one, name) for one in chosen]))
