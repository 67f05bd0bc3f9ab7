"""The rows of the tables of rates: one for each model, for each data set, or for each job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd

from pytest_siren.evaluation.scores import spoken
from pytest_siren.metrics.gates.selection import score_column
from pytest_siren.metrics.rates.choices import Cluster, Estimate
from pytest_siren.metrics.rates.measures import Measure, finishes, rate, unbiased_runs

PLOTTED = ("utility", "utility_under_attack", "asr", "exposure")
_MODEL = ("model", "agent")
_DATASET = ("dataset", *_MODEL)


@dataclass(frozen=True)
class _Asked:
    """What is asked of the runs of each row."""

    cluster: Cluster
    measures: tuple[str, ...]


@dataclass(frozen=True)
class Rate:
    """A rate with the errors that are in neither its numerator nor its denominator."""

    estimate: Estimate | None
    """``None`` when no run has a score."""
    errors: int
    unknown: int
    """Scored runs of which this score is unknown."""
    runs: int
    """That have come to an end, errors among them."""
    k: int = 1
    """Scored runs that each task needs at least."""


@dataclass(frozen=True)
class Row:
    """What came of some of the runs."""

    names: dict[str, str]
    """What they share, such as the model, by column of the table of runs."""
    attack: str | None
    job: str | None
    """Name of the job, where the row is of one."""
    rates: dict[str, Rate]
    """By measure; without those that no run is about."""
    answers: str
    """How the last answers of scored runs ended, where not all are whole."""
    runs: int
    statuses: dict[str, int]
    cost: float
    unpriced: int
    """Attempts whose cost is unknown."""
    input_tokens: int
    output_tokens: int
    seconds: float
    """Of all runs, one after the other."""


@dataclass(frozen=True)
class Grouping:
    """A table of rates."""

    key: str
    title: str
    heads: dict[str, str]
    """Columns of the table of runs that are shown of ``Row.names``, with their titles."""
    rows: tuple[Row, ...]


def groupings(
    runs: pd.DataFrame, cluster: Cluster = Cluster.COUPLE, passes: Sequence[str] = ()
) -> list[Grouping]:
    """Return the tables of rates of ``runs``, the one to be shown first at the beginning.

    Intervals take runs of one ``cluster`` for alike. ``passes`` names further measures, over
    several runs.
    """
    if runs.empty:
        return []
    configurations = runs.drop_duplicates(["job"])[[*_DATASET, "attack"]]
    asked = _Asked(cluster, (*PLOTTED, *passes, "error_rate"))
    made = [_by_job(runs, asked)]
    if len(configurations) > 1:
        if configurations["dataset"].nunique() > 1:
            made.insert(0, _paired(runs, "dataset", "Data set and model", _DATASET, asked))
        made.insert(0, _paired(runs, "model", "Model and attack", _MODEL, asked))
    if configurations.duplicated().any():
        # Jobs that differ in nothing but their settings: to lump them together would hide it.
        made.insert(0, made.pop())
    return made


def _paired(
    runs: pd.DataFrame, key: str, title: str, columns: tuple[str, ...], asked: _Asked
) -> Grouping:
    """Group by ``columns`` and attack; each attack beside the same agent's runs without one."""
    rows: list[Row] = []
    for names, group in _groups(runs, columns):
        attacked = group["attack"].notna()
        without = group[~attacked]
        if not attacked.any():
            rows.append(_row(group, names, None, None, asked))
        for attack, under in _groups(group[attacked], ("attack",)):
            same = without[without["dataset"].isin(under["dataset"].unique())]
            both = pd.concat([same, under])
            rows.append(_row(both, names, attack["attack"], None, asked))
    return Grouping(key, title, _heads(runs, columns), tuple(rows))


def _heads(runs: pd.DataFrame, columns: tuple[str, ...]) -> dict[str, str]:
    titles = {"dataset": "Data set", "model": "Model", "agent": "Agent"}
    # Nearly always there is one agent, and then it tells nothing.
    shown = (one for one in columns if one != "agent" or runs["agent"].nunique() > 1)
    return {column: titles[column] for column in shown}


def _by_job(runs: pd.DataFrame, asked: _Asked) -> Grouping:
    rows = []
    for job, group in _groups(runs, ("job",)):
        first = group.iloc[0]
        names = {column: _name(first[column]) for column in _DATASET}
        attack = _name(first["attack"]) or None
        rows.append(_row(group, names, attack, PurePath(job["job"]).name, asked))
    return Grouping("job", "Job", _heads(runs, _DATASET), tuple(rows))


def _groups(
    runs: pd.DataFrame, columns: tuple[str, ...]
) -> Iterator[tuple[dict[str, str], pd.DataFrame]]:
    grouped = runs.groupby(list(columns), observed=True, dropna=False, sort=False)
    for names, positions in sorted(grouped.indices.items(), key=lambda item: str(item[0])):
        several = names if isinstance(names, tuple) else (names,)
        yield dict(zip(columns, map(_name, several), strict=True)), runs.iloc[positions]


def _name(value: Any) -> str:
    return "" if pd.isna(value) else str(value)


def _row(
    runs: pd.DataFrame,
    names: dict[str, str],
    attack: str | None,
    job: str | None,
    asked: _Asked,
) -> Row:
    attacked = runs["attack"].notna()
    rates = {}
    for name in asked.measures:
        about = runs
        if name == "utility" or (name.startswith("benign_pass") and not attacked.any()):
            about = runs[~attacked]
        elif name != "error_rate":
            about = runs[attacked]
        if len(about):
            rates[name] = _rate(about, name, asked.cluster)
    return Row(
        names=names,
        attack=attack,
        job=job,
        rates=rates,
        answers=", ".join(spoken(finishes(runs))),
        runs=len(runs),
        statuses={str(status): int(n) for status, n in runs["status"].value_counts().items() if n},
        cost=float(np.nansum(runs["cost"])),
        unpriced=int(runs["unpriced"].sum()),
        input_tokens=int(runs["input_tokens"].sum()),
        output_tokens=int(runs["output_tokens"].sum()),
        seconds=float(np.nansum(runs["duration"])),
    )


def _rate(runs: pd.DataFrame, name: str, cluster: Cluster) -> Rate:
    # What is said beside a rate is of the runs that it is made of.
    runs = runs[unbiased_runs(runs, Measure.of(name))]
    scored = runs["status"] == "scored"
    failed = int((runs["status"] == "error").sum())
    unknown = 0
    if name != "error_rate":
        score = runs[score_column(name)]
        unknown = int((scored & score.isna()).sum())
    found = rate(runs, Measure.of(name), cluster=cluster)
    return Rate(found, failed, unknown, failed + int(scored.sum()), Measure.of(name).k)
