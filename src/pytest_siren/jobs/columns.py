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
from pytest_siren.jobs.their_usage import took
from pytest_siren.jobs.theirs import Numbering, status_of
from pytest_siren.metrics.attempts import Attempts, first_scored, folded
from pytest_siren.metrics.codes import MISSING, Codes
from pytest_siren.yamlpos.problems import printable

Array = npt.NDArray[Any]
Columns = dict[str, Array]

_STATUSES = tuple(status.value for status in Status)
_SCORED, _ERROR = _STATUSES.index(Status.SCORED), _STATUSES.index(Status.ERROR)
_OF_DECIDING = (
    *("task", "vectors", "status", "error", "run_index", "benign_score", "attack_score"),
    *("duration", "finish", "exposed"),
)
_INTEGERS = ("run_index", "input_tokens", "output_tokens")
_FLOATS = ("benign_score", "attack_score", "cost", "duration", "exposed")
_FIELDS = (
    *("status", "identity", "path", "task_id", "vectors", "exception_type", "finish"),
    *_INTEGERS,
    *_FLOATS,
)


@dataclass
class _Naming:
    """Fills in what prompt-siren's lines in one index lack."""

    job: Path
    numbering: Numbering
    tasks: Codes[str]
    parts: list[Columns] = field(default_factory=list)
    """What has been read of the index."""
    unmeasured: int = 0
    """Lines whose tokens, or whose times, nothing tells."""
    _noted: int = 0

    def measure(self, values: dict[str, list[Any]]) -> None:
        """Fill in duration and tokens, where ``values`` are those of lines."""
        for at, path in enumerate(values["path"]):
            if values["identity"][at] is None:
                found = took(self.job / path)
                tokens = found.tokens or (0, 0)
                values["duration"][at] = found.duration
                values["input_tokens"][at], values["output_tokens"][at] = tokens
                self.unmeasured += found.tokens is None or found.duration != found.duration

    def name(self, values: dict[str, list[Any]], status: Sequence[str]) -> None:
        """Fill in index and identity of their runs, where ``values`` are those of lines."""
        for part in self.parts[self._noted :]:
            for at in map(int, np.flatnonzero(part["status"] == _SCORED)):
                task = self.tasks.values[int(part["task"][at])]
                self.numbering.note(task, int(part["run_index"][at]))
        self._noted = len(self.parts) + 1
        for at, task in enumerate(values["task_id"]):
            if values["identity"][at] is None:
                named = self.numbering.next(task, values["path"][at])
                values["run_index"][at], values["identity"][at] = named
            elif status[at] == Status.SCORED:
                self.numbering.note(task, values["run_index"][at])


@dataclass
class Indexes:
    """Turns indexes into columns; names that they share are kept once."""

    paths: bool = False
    """Whether the columns ``path`` and ``run_id`` are wanted."""
    tasks: Codes[str] = field(default_factory=Codes)
    vectors: Codes[tuple[str, ...]] = field(default_factory=Codes)
    statuses: Codes[str] = field(default_factory=Codes)
    errors: Codes[str] = field(default_factory=Codes)
    finishes: Codes[str] = field(default_factory=Codes)

    def __post_init__(self) -> None:
        self.statuses.of(_STATUSES)

    def runs(
        self,
        index: Path,
        identity: str,
        problems: list[str],
        places: Codes[str],
        notes: list[str],
    ) -> Columns | None:
        """Return the columns of the runs of ``index``, in the order of their first attempts.

        ``identity`` is that of the job's configuration; ``places`` is filled with the folders that
        the index names, ``notes`` with what is not known of them. Of several attempts at a run the
        first that was scored counts, else the last. ``None`` when there is no run. Raises
        ``RecordError`` when the file cannot be read.
        """
        runs = Codes[str]()
        naming = _Naming(index.parent, Numbering(identity), self.tasks)
        parts = naming.parts
        for lines in blocks(index, problems):
            if lines:
                parts.append(self._attempts(lines, runs, places, naming))
        if naming.unmeasured:
            what = f"{naming.unmeasured:,} run{'s' if naming.unmeasured > 1 else ''}"
            notes.append(
                f"job {printable(index.parent.name)}: the tokens or times of {what} are not "
                "known, and are not counted"
            )
        if not parts:
            return None
        attempts = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return _folded(_once(attempts, index, problems))

    def _attempts(
        self, lines: Sequence[Line], runs: Codes[str], places: Codes[str], naming: _Naming
    ) -> Columns:
        values = {name: list(map(attrgetter(name), lines)) for name in _FIELDS}
        status = values["status"]
        if None in values["identity"] or None in status:
            status = [line.status or status_of(line.exception_type).value for line in lines]
            naming.measure(values)
            naming.name(values, status)
        columns: Columns = {
            "run": runs.of(values["identity"]),
            "place": places.of(values["path"]),
            "task": self.tasks.of(values["task_id"]),
            "vectors": self.vectors.of([one or None for one in values["vectors"]]),
            "status": self.statuses.of(status),
            "error": self.errors.of(values["exception_type"]),
            "finish": self.finishes.of(values["finish"]),
        }
        columns |= {name: np.asarray(values[name], dtype=np.int64) for name in _INTEGERS}
        columns |= {name: np.asarray(values[name], dtype=np.float64) for name in _FLOATS}
        if self.paths:
            columns["path"] = np.asarray(values["path"], dtype=object)
            columns["run_id"] = np.asarray([line.run_id for line in lines], dtype=object)
        return columns


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
    columns["error"] = np.where(columns["status"] == _ERROR, columns["error"], MISSING)
    for score in ("benign_score", "attack_score"):
        columns[score] = np.where(columns["status"] == _SCORED, columns[score], np.nan)
    return columns
