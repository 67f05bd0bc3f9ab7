"""The cells of a sweep: what its jobs differ in, and how one of them is chosen."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from pytest_siren.jobs.reading.job_config import JobSummary, RecordError, job_summary, one_line
from pytest_siren.jobs.records.naming import CONFIG_FILE
from pytest_siren.jobs.writing.write import Form, make_folder, write
from pytest_siren.records import Name
from pytest_siren.yamlpos.reader import read_bytes

BENIGN = "benign"
"""How the cell of a job without an attack is called."""
_PAIRS = re.compile(r",(?=[\w.+-]+=)")
"""Between two conditions of a selector; the names of models may hold commas."""


class Cell(BaseModel):
    """One job of a sweep."""

    model_config = ConfigDict(strict=True, frozen=True)

    job: str
    """Name of its folder."""
    dataset: str
    agent: str
    model: str
    attack: str | None = None
    values: dict[str, str] = Field(default_factory=dict)
    """Other keys that the sweep is over, to their values as they were written."""
    runs: Annotated[int, Field(ge=1)] | None = None
    """Runs of each task."""

    def named(self) -> dict[str, str]:
        """Return what a selector may ask for, by name."""
        names = {"dataset": self.dataset, "agent": self.agent, "model": self.model}
        return {**names, "attack": self.attack or BENIGN, **self.values}


def cells_of(jobs_dir: Path, names: Iterable[str]) -> list[Cell]:
    """Return the cells that the jobs of those ``names`` are; one that cannot be read is none."""
    found: list[Cell] = []
    for name in names:
        try:
            found.append(_cell(name, job_summary(jobs_dir / name)))
        except RecordError:
            # Whoever reads the job names it; here, its cell cannot be chosen by its values.
            continue
    return found


def _cell(name: str, facts: JobSummary) -> Cell:
    return Cell(
        job=name,
        dataset=facts.dataset,
        agent=facts.agent,
        model=facts.model,
        attack=facts.attack,
        values=dict(facts.cell),
        runs=facts.runs,
    )


def differing(cells: Sequence[Cell]) -> dict[str, dict[str, str]]:
    """Return, for each job, what tells it from the others: short names to values.

    A dotted key is called by its last part where no other key ends in the same one.
    """
    named = {cell.job: cell.named() for cell in cells}
    keys = list(dict.fromkeys(key for values in named.values() for key in values))
    varying = [key for key in keys if len({one.get(key) for one in named.values()}) > 1]
    short = short_names(keys)
    return {
        job: {short[key]: values.get(key, "") for key in varying} for job, values in named.items()
    }


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Return dotted ``keys`` cut to their last part, where no other key ends in the same one."""
    lasts = [key.rpartition(".")[2] for key in keys]
    return {
        key: key if lasts.count(last) > 1 else last for key, last in zip(keys, lasts, strict=True)
    }


def chosen(cells: Sequence[Cell], names: Sequence[str], selector: str) -> list[str]:
    """Return the names of the jobs that ``selector`` means, of all ``names`` of the sweep's jobs.

    It is the number of a cell, from 1, or conditions ``key=value`` with commas between them; values
    may be globs. A key may be cut to its last part. Raises ``ValueError`` when there is none.
    """
    if selector.isdecimal():
        if not 1 <= int(selector) <= len(names):
            raise ValueError(f"there is no cell {selector}; the sweep has {len(names):,}")
        return [names[int(selector) - 1]]
    wanted: dict[str, str] = {}
    for pair in _PAIRS.split(selector):
        key, sign, value = pair.partition("=")
        if not (sign and key.strip()):
            raise ValueError(f"{pair!r} is neither the number of a cell nor KEY=VALUE")
        wanted[key.strip()] = value.strip()
    known = dict.fromkeys(key for cell in cells for key in cell.named())
    for key in wanted:
        if not any(_is(key, name) for name in known):
            raise ValueError(f"no cell has a {key!r}; known are {', '.join(known)}")
    found = [cell.job for cell in cells if _fits(cell.named(), wanted)]
    if not found:
        raise ValueError(f"no cell fits {selector!r}")
    return found


def _fits(values: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    return all(
        any(
            _is(key, name) and (value == glob or fnmatchcase(value, glob))
            for name, value in values.items()
        )
        for key, glob in wanted.items()
    )


def _is(key: str, name: str) -> bool:
    return key == name or name.endswith(f".{key}")


FOLDER = ".sweeps"
_CREATED, _HEADER = "# Created: ", 5
"""What the line of the time begins with in a job's configuration, and how many lines may hold it.
To parse them all would take long where there are many jobs."""
_TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2}_\d{2}-\d{2}-\d{2}(_\d+)?")


def _check_folder(name: str) -> str:
    if name in (".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"{name!r} is no name of a job")
    return name


_JobName: TypeAlias = Annotated[Name, AfterValidator(_check_folder)]


class _SweepFile(BaseModel):
    """What readers take from the file of a sweep."""

    model_config = ConfigDict(strict=True)

    created_at: str | None = None
    job_names: list[_JobName] = []
    identities: dict[str, _JobName] = {}
    launcher: str | None = None
    cells: list[Cell] = []

    @field_validator("identities", mode="before")
    @classmethod
    def _none_of_theirs(cls, value: object) -> object:
        """prompt-siren has no identities."""
        return {} if value is None else value

    def all_cells(self, jobs_dir: Path) -> list[Cell]:
        """Return the cells of all jobs; those that the file does not describe are read."""
        known = {cell.job: cell for cell in self.cells}
        if unknown := [name for name in self.job_names if name not in known]:
            known |= {cell.job: cell for cell in cells_of(jobs_dir, unknown)}
        return [known[name] for name in self.job_names if name in known]


class SweepError(ValueError):
    """Nothing goes by the name that was given, or the sweep's file is damaged."""


@dataclass(frozen=True)
class Sweep:
    """The jobs that one command started."""

    id: str
    jobs: tuple[str, ...]
    """Names of their folders."""
    identities: Mapping[str, str] = field(default_factory=dict)
    """Identity of a job's configuration to the name of its folder."""
    guessed: bool = False
    """Whether the jobs were found by the time in their names, for want of the sweep's file."""
    cells: tuple[Cell, ...] = ()
    """What the jobs differ in, in their order."""


def write_sweep(jobs_dir: Path, sweep: Sweep, launcher: str) -> None:
    """Write the sweep's file; jobs that it names already stay named. Raises ``OSError``.

    Cells that neither the file nor ``sweep`` describes are read from the jobs.
    """
    folder = jobs_dir / FOLDER
    make_folder(folder)
    path = folder / f"{sweep.id}.json"
    before = _load(path) if os.path.lexists(path) else _SweepFile()
    identities = {**before.identities, **sweep.identities}
    names = list(dict.fromkeys([*before.job_names, *sweep.jobs]))
    if names != before.job_names or identities != before.identities:
        described = {cell.job: cell for cell in (*sweep.cells, *before.cells)}
        update = {"job_names": names, "identities": identities, "cells": [*described.values()]}
        now = before.model_copy(update=update)
        now = now.model_copy(update={"cells": now.all_cells(jobs_dir)})
        write(path, _content(sweep.id, now, launcher), Form.DOCUMENT)


def _content(sweep_id: str, file: _SweepFile, launcher: str | None) -> dict[str, object]:
    return {
        "sweep_id": sweep_id,
        "created_at": file.created_at or datetime.now(UTC).isoformat(),
        "job_names": file.job_names,
        "hydra_sweep_dir": None,
        "launcher": launcher,
        "config_name": None,
        "identities": file.identities,
        "cells": [cell.model_dump() for cell in file.cells],
    }


def forget_jobs(jobs_dir: Path, sweep_id: str, names: Sequence[str]) -> None:
    """Take jobs that were removed out of the sweep's file, which goes with the last of them."""
    path = jobs_dir / FOLDER / f"{sweep_id}.json"
    with suppress(OSError, SweepError):
        before = _load(path)
        left = [name for name in before.job_names if name not in names]
        if not left:
            path.unlink()
            path.parent.rmdir()
            return
        kept = {one: name for one, name in before.identities.items() if name in left}
        cells = [cell for cell in before.cells if cell.job in left]
        now = before.model_copy(update={"job_names": left, "identities": kept, "cells": cells})
        write(path, _content(sweep_id, now, before.launcher), Form.DOCUMENT)


def read_sweep(jobs_dir: Path, sweep_id: str) -> Sweep | None:
    """Return the sweep of that id, by its file or by the time in the names of jobs.

    ``None`` when there is neither. Raises ``SweepError`` for a file that is damaged.
    """
    path = jobs_dir / FOLDER / f"{sweep_id}.json"
    if os.path.lexists(path):
        content = _load(path)
        cells = tuple(content.all_cells(jobs_dir))
        return Sweep(sweep_id, tuple(content.job_names), content.identities, cells=cells)
    if not _TIMESTAMP.fullmatch(sweep_id):
        return None
    names = tuple(name for name in job_names(jobs_dir) if sweep_id in name)
    cells = tuple(cells_of(jobs_dir, names))
    return Sweep(sweep_id, names, guessed=True, cells=cells) if names else None


def find_jobs(jobs_dir: Path, target: str, base: Path) -> tuple[list[Path], Sweep | None]:
    """Return the folders of the jobs that ``target`` names, and the sweep if it is one.

    ``target`` is the name or the path (from ``base``) of a job, the id of a sweep, that with cells
    (``ID:2``, ``ID:model=a,attack=b``), or a glob over names of jobs, tried in this order. Raises
    ``SweepError`` when nothing goes by that name.
    """
    for path in (jobs_dir / target, base / target):
        if os.path.isfile(path / CONFIG_FILE):
            return [path], None
    if (found_sweep := _named_sweep(jobs_dir, target)) is not None:
        sweep, names = found_sweep
        there = [jobs_dir / name for name in names if (jobs_dir / name / CONFIG_FILE).exists()]
        if not there:
            raise SweepError(f"none of the jobs of the sweep {target} are left in {jobs_dir}")
        return there, sweep
    found = [jobs_dir / name for name in job_names(jobs_dir) if fnmatchcase(name, target)]
    if not found:
        some = ", ".join(_latest(jobs_dir)) or "there are none"
        raise SweepError(
            f"no job, sweep or glob {target!r} in {jobs_dir} (the latest jobs: {some})"
        )
    return found, None


def _named_sweep(jobs_dir: Path, target: str) -> tuple[Sweep, Sequence[str]] | None:
    """Return the sweep that ``target`` names, and the names of its jobs that it means.

    Raises ``SweepError`` for cells that the sweep does not have.
    """
    if (sweep := read_sweep(jobs_dir, target)) is not None:
        return sweep, sweep.jobs
    sweep_id, colon, selector = target.partition(":")
    if not colon or (sweep := read_sweep(jobs_dir, sweep_id)) is None:
        return None
    try:
        return sweep, chosen(sweep.cells, sweep.jobs, selector)
    except ValueError as error:
        raise SweepError(f"sweep {sweep_id}: {error}") from None


def job_names(jobs_dir: Path) -> list[str]:
    """Return the names of the jobs in ``jobs_dir``, oldest name first."""
    return sorted(path.parent.name for path in jobs_dir.glob(f"*/{CONFIG_FILE}"))


def _latest(jobs_dir: Path) -> list[str]:
    """Return the names of the jobs that were begun last, the latest one first."""
    return sorted(job_names(jobs_dir), key=lambda name: _created(jobs_dir / name), reverse=True)[:3]


def _created(job: Path) -> str:
    """Return when ``job`` was begun, in a form that sorts; by its file, if that does not tell."""
    path = job / CONFIG_FILE
    if not path.is_file():
        return ""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            head = [next(file, "") for _ in range(_HEADER)]
        changed = path.stat().st_mtime
    except OSError:
        return ""
    for line in head:
        if line.startswith(_CREATED):
            return line.removeprefix(_CREATED).strip()
    return datetime.fromtimestamp(changed, UTC).isoformat()


def _load(path: Path) -> _SweepFile:
    try:
        return _SweepFile.model_validate_json(read_bytes(path))
    except OSError as error:
        raise SweepError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise SweepError(f"{path}: not a sweep: {one_line(error)}") from error
