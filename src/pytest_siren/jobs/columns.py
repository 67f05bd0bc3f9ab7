"""An index of attempts as columns of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pytest_siren.evaluation.status import Status
from pytest_siren.jobs.lines import Line, blocks
from pytest_siren.metrics.attempts import Attempts, first_scored, folded
from pytest_siren.metrics.codes import MISSING, Codes

Array = npt.NDArray[Any]
Columns = dict[str, Array]

_STATUSES = tuple(status.value for status in Status)
_SCORED, _ERROR = _STATUSES.index(Status.SCORED), _STATUSES.index(Status.ERROR)
_CANCELLED = "CancelledError"
_OF_DECIDING = (
    *("task", "vectors", "status", "error", "run_index", "benign_score", "attack_score"),
    "duration",
    "exposed",
)
_INTEGERS = ("run_index", "input_tokens", "output_tokens")
_FLOATS = ("benign_score", "attack_score", "cost", "duration", "exposed")
_FIELDS = (
    *("status", "identity", "path", "task_id", "vectors", "exception_type"),
    *_INTEGERS,
    *_FLOATS,
)


@dataclass
class Indexes:
    """Turns indexes into columns; names that they share are kept once."""

    paths: bool = False
    """Whether the columns ``path`` and ``run_id`` are wanted."""
    tasks: Codes[str] = field(default_factory=Codes)
    vectors: Codes[tuple[str, ...]] = field(default_factory=Codes)
    statuses: Codes[str] = field(default_factory=Codes)
    errors: Codes[str] = field(default_factory=Codes)

    def __post_init__(self) -> None:
        self.statuses.of(_STATUSES)

    def runs(self, index: Path, problems: list[str]) -> Columns | None:
        """Return the columns of the runs of ``index``, in the order of their first attempts.

        Of several attempts at a run the first that was scored counts, else the last. ``None`` when
        there is no run. Raises ``RecordError`` when the file cannot be read.
        """
        runs, places = Codes[str](), Codes[str]()
        parts = [self._attempts(lines, runs, places) for lines in blocks(index, problems) if lines]
        if not parts:
            return None
        attempts = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return _folded(_once(attempts, index, problems))

    def _attempts(self, lines: Sequence[Line], runs: Codes[str], places: Codes[str]) -> Columns:
        values = {name: list(map(attrgetter(name), lines)) for name in _FIELDS}
        status, run = values["status"], values["identity"]
        counted = np.asarray([one is not None for one in run], dtype=np.bool_)
        if not counted.all() or None in status:
            # A line of prompt-siren's names no run: each is a run of its own.
            status = [line.status or _their_status(line) for line in lines]
            run = [line.identity or line.path for line in lines]
        columns: Columns = {
            "run": runs.of(run),
            "counted": counted,
            "place": places.of(values["path"]),
            "task": self.tasks.of(values["task_id"]),
            "vectors": self.vectors.of([one or None for one in values["vectors"]]),
            "status": self.statuses.of(status),
            "error": self.errors.of(values["exception_type"]),
        }
        columns |= {name: np.asarray(values[name], dtype=np.int64) for name in _INTEGERS}
        columns |= {name: np.asarray(values[name], dtype=np.float64) for name in _FLOATS}
        if self.paths:
            columns["path"] = np.asarray(values["path"], dtype=object)
            columns["run_id"] = np.asarray([line.run_id for line in lines], dtype=object)
        return columns


def _their_status(line: Line) -> str:
    """Return what prompt-siren means: it writes a type of exception, and a score of 0 beside it."""
    if line.exception_type is None:
        return Status.SCORED.value
    return Status.CANCELLED.value if line.exception_type == _CANCELLED else Status.ERROR.value


def _once(attempts: Columns, index: Path, problems: list[str]) -> Columns:
    """Return the attempts without those that the index names again."""
    again = len(attempts["place"]) - int(attempts["place"].max()) - 1
    if not again:
        return attempts
    _, first = np.unique(attempts["place"], return_index=True)
    problems.append(f"{index}: attempts that it names again, and that count once: {again:,}")
    first.sort()
    once = {name: values[first] for name, values in attempts.items()}
    # A run may have lost all its lines.
    once["run"] = np.unique(once["run"], return_inverse=True)[1]
    return once


def _folded(attempts: Columns) -> Columns:
    runs = int(attempts["run"].max()) + 1
    scored = attempts["status"] == _SCORED
    deciding = first_scored(attempts["run"], scored, runs)
    ones = np.ones(len(scored), dtype=np.int64)
    sums = folded(
        Attempts(
            run=attempts["run"],
            tries=ones,
            input_tokens=attempts["input_tokens"],
            output_tokens=attempts["output_tokens"],
            cost=attempts["cost"],
            unpriced=np.isnan(attempts["cost"]).astype(np.int64),
        ),
        runs,
    )
    names = (*_OF_DECIDING, *(name for name in ("path", "run_id") if name in attempts))
    columns = {name: attempts[name][deciding] for name in names} | vars(sums)
    counted = attempts["counted"][deciding]
    if not counted.all():
        columns["run_index"] = np.where(counted, columns["run_index"], _nth(columns["task"]))
    columns["error"] = np.where(columns["status"] == _ERROR, columns["error"], MISSING)
    for score in ("benign_score", "attack_score"):
        columns[score] = np.where(columns["status"] == _SCORED, columns[score], np.nan)
    return columns


def _nth(codes: Array) -> Array:
    """Return how many earlier places hold the same code, for each place."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    lengths = np.diff(np.r_[starts, len(codes)])
    counts = np.empty(len(codes), dtype=np.int64)
    counts[order] = np.arange(len(codes)) - np.repeat(starts, lengths)
    return counts
