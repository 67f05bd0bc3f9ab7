"""The cells of a sweep: what its jobs differ in, and how one of them is chosen."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from pytest_siren.jobs.reading.job_config import JobSummary, RecordError, job_summary

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
