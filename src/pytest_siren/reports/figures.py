"""The figures that reports show: of each job, of each couple that was hit, of errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pytest_siren.metrics.estimates import Estimate
from pytest_siren.metrics.exposed import Exposed, exposed_of
from pytest_siren.metrics.measures import Cluster, Measure, finishes, rate

CONFIGURATION = ("dataset", "agent", "model", "attack", "job")
_COUPLE = (*CONFIGURATION, "task_id")


@dataclass(frozen=True)
class JobFigures:
    """The figures of one job."""

    dataset: str
    agent: str
    model: str
    attack: str | None
    job: str
    tasks: int
    scored: int
    """Runs with a score."""
    errors: int
    cancelled: int
    utility: Estimate | None
    """Of benign runs, or under attack; ``None`` without any score."""
    asr: Estimate | None
    """``None`` for jobs without an attack, and without any score."""
    passes: Mapping[str, Estimate | None]
    """Measures over several runs, such as ``attack_pass@3``; ``None`` where no task has so many
    runs with a score. Without those of the attacker for jobs without an attack."""
    finishes: Mapping[str, int]
    """How the last answers of scored runs ended, to the number of runs."""
    exposed: Exposed | None
    """Scored runs by what their model was sent; ``None`` for jobs without an attack."""
    input_tokens: int
    output_tokens: int
    cost: float
    """US dollars of the attempts whose cost is known."""
    unpriced: int
    """Attempts whose cost is unknown."""


@dataclass(frozen=True)
class Hit:
    """A couple that the attacker won at least once, in one job."""

    dataset: str
    agent: str
    model: str
    attack: str
    job: str
    task_id: str
    wins: int
    """Runs with an attack score of 1.0."""
    scored: int
    """Runs whose attack score is known."""
    path: str
    """Folder, relative to the job's, of the first run that the attacker won."""


def job_figures(
    runs: pd.DataFrame, cluster: Cluster = Cluster.COUPLE, passes: Sequence[str] = ()
) -> list[JobFigures]:
    """Return the figures of each job, sorted by dataset, agent, model and attack, benign first.

    ``passes`` names the measures over several runs.
    """
    groups = runs.groupby(list(CONFIGURATION), observed=True, dropna=False)
    found = [_of_job(part, cluster, passes) for _, part in groups]
    return sorted(found, key=lambda one: (one.dataset, one.agent, one.model, one.attack or ""))


def hits(runs: pd.DataFrame) -> list[Hit]:
    """Return the couples that the attacker won, those won most often first.

    ``runs`` must have the column ``path``.
    """
    attacked = runs[runs["attack"].notna() & (runs["status"] == "scored")]
    known = attacked[attacked["attack_score"].notna()]
    won = known["attack_score"] == 1.0
    if not won.any():
        return []
    # A job has one configuration, so that the combinations are not many more than the couples.
    groups = known.assign(won=won).groupby(list(_COUPLE), observed=True)["won"]
    counts = groups.agg(["sum", "count"])
    first = known[won].sort_values("run_index").groupby(list(_COUPLE), observed=True)["path"]
    counts = counts[counts["sum"] > 0].join(first.first()).reset_index()
    found = [
        Hit(
            **{name: str(value) for name, value in zip(_COUPLE, key, strict=True)},
            wins=int(wins),
            scored=int(scored),
            path=str(path),
        )
        for *key, wins, scored, path in counts.itertuples(index=False)
    ]
    return sorted(found, key=lambda one: (-one.wins / one.scored, -one.wins, one.task_id))


def errors_by_type(runs: pd.DataFrame) -> list[tuple[str, int]]:
    """Return types of exceptions with the number of runs that they ended, the most first."""
    types = runs.loc[runs["status"] == "error", "error_type"].astype(object).fillna("unknown")
    return [(str(name), int(count)) for name, count in types.value_counts().items()]


def _of_job(runs: pd.DataFrame, cluster: Cluster, passes: Sequence[str]) -> JobFigures:
    first = runs.iloc[0]
    attack = None if pd.isna(first["attack"]) else str(first["attack"])
    utility = "utility" if attack is None else "utility_under_attack"
    return JobFigures(
        dataset=str(first["dataset"]),
        agent=str(first["agent"]),
        model=str(first["model"]),
        attack=attack,
        job=str(first["job"]),
        tasks=int(runs["task_id"].nunique()),
        scored=_count(runs, "scored"),
        errors=_count(runs, "error"),
        cancelled=_count(runs, "cancelled"),
        utility=rate(runs, Measure.of(utility), cluster=cluster),
        asr=None if attack is None else rate(runs, Measure.of("asr"), cluster=cluster),
        passes={
            name: rate(runs, Measure.of(name), cluster=cluster)
            for name in passes
            if attack is not None or not name.startswith("attack")
        },
        finishes=finishes(runs),
        exposed=None if attack is None else exposed_of(runs),
        input_tokens=int(runs["input_tokens"].sum()),
        output_tokens=int(runs["output_tokens"].sum()),
        cost=float(np.nansum(runs["cost"].to_numpy())),
        unpriced=int(runs["unpriced"].sum()),
    )


def _count(runs: pd.DataFrame, status: str) -> int:
    return int((runs["status"] == status).sum())
