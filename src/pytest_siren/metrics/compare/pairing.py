"""Pairs the runs of one table with those of another."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from pytest_siren.metrics.rates.choices import Cluster, Errors
from pytest_siren.metrics.rates.intervals import Clusters
from pytest_siren.metrics.rates.measures import (
    Measure,
    ended_early,
    run_scores,
    stem_applies_to,
    units,
)

Ints = npt.NDArray[np.int64]

_MOST_EXAMPLES = 5


@dataclass(frozen=True)
class UnpairedRuns:
    """Runs of one side that have no counterpart on the other."""

    runs: int
    tasks: int
    """Tasks of shared datasets that have no run on the other side."""
    examples: tuple[str, ...]
    """Ids of some of these tasks, sorted; without such tasks, runs, as ``task (run 3)``."""
    datasets: tuple[str, ...]
    """Datasets that have no run on the other side."""


@dataclass(frozen=True)
class Pairing:
    """Positions of the paired runs in either table, each of shape ``(pairs,)``."""

    left: Ints
    right: Ints
    only_left: UnpairedRuns
    only_right: UnpairedRuns
    renamed: tuple[str, str] | None
    """The attack of each side, if attacks with different names were paired."""
    by_model: bool
    """Whether pairs have the same agent and model, because each side holds several."""


def runs_with_measure(runs: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """Return the ``runs`` that ``measure`` applies to, scored or not."""
    return runs[stem_applies_to(runs, measure.stem)]


def comparable_runs(
    left: pd.DataFrame, right: pd.DataFrame, measure: Measure
) -> tuple[pd.DataFrame, pd.DataFrame, bool]:
    """Return the runs of both sides that can be compared in ``measure``, which is no pass@k.

    If tasks of either side may have ended early, these are the first runs only, because later ones
    are a biased sample. The last value is true in that case.
    """
    sides = runs_with_measure(left, measure), runs_with_measure(right, measure)
    if not any(ended_early(side).any() for side in sides):
        return *sides, False
    first, other = (side[(side["run_index"] == 0).to_numpy()] for side in sides)
    return first, other, True


def pair(left: pd.DataFrame, right: pd.DataFrame, *, rename: bool = False) -> Pairing:
    """Pair the runs of two tables (``metrics/frame.py``) by dataset, task, attack and run index.

    Runs without an attack pair with runs without an attack. With ``rename``, if either side has
    exactly one attack, the two are paired whatever their names. If each side holds several agents
    or models, runs of the same agent and model are paired; if only one side does, each of its
    configurations is paired with the other side's. A configuration that several jobs ran has
    several runs of the same index: the first pairs with the first, and so on.
    """
    attacks = _attacks(left), _attacks(right)
    renamed = None
    if rename and len(attacks[0]) == len(attacks[1]) == 1 and attacks[0] != attacks[1]:
        renamed = attacks[0][0], attacks[1][0]
    sides = (left, right)
    dataset = _joint(sides, "dataset")
    task = _combined(dataset, _joint(sides, "task_id"))
    attack = _joint(sides, "attack")
    if renamed is not None:
        attack = (np.minimum(attack[0], 0), np.minimum(attack[1], 0))
    index = left["run_index"].to_numpy(np.int64), right["run_index"].to_numpy(np.int64)
    run = _combined(_combined(task, attack), index)
    who = _combined(_joint(sides, "agent"), _joint(sides, "model"))
    by_model = len(np.unique(who[0])) > 1 and len(np.unique(who[1])) > 1
    if by_model:
        run = _combined(run, who)
    repeated = _combined(run, who)
    run = _combined(run, (_occurrence(repeated[0]), _occurrence(repeated[1])))
    matched = pd.merge(
        pd.DataFrame({"run": run[0], "left": np.arange(len(left))}),
        pd.DataFrame({"run": run[1], "right": np.arange(len(right))}),
        on="run",
    )
    paired = matched["left"].to_numpy(np.int64), matched["right"].to_numpy(np.int64)
    return Pairing(
        *paired,
        only_left=_alone(left, paired[0], dataset, task),
        only_right=_alone(right, paired[1], dataset[::-1], task[::-1]),
        renamed=renamed,
        by_model=by_model,
    )


def mixed(runs: pd.DataFrame, side: str) -> list[str]:
    """Return a note for each group of a side's runs that mixes several configurations."""
    same = ["dataset", "attack", "agent", "model"]
    kinds = runs[[*same, "identity"]].drop_duplicates().astype(object)
    found: dict[tuple[str, ...], int] = {}
    for dataset, attack, agent, model in kinds[same].itertuples(index=False):
        key = dataset, "no attack" if pd.isna(attack) else attack, agent, model
        found[key] = found.get(key, 0) + 1
    return [
        f"the {side} side holds {count} configurations of {', '.join(key)}"
        for key, count in found.items()
        if count > 1
    ]


def _attacks(runs: pd.DataFrame) -> list[str]:
    return sorted(str(name) for name in runs["attack"].dropna().unique())


def _joint(sides: tuple[pd.DataFrame, pd.DataFrame], name: str) -> tuple[Ints, Ints]:
    """Return codes of a column's values, shared by both sides; -1 for missing ones."""
    left, right = (pd.Categorical(side[name]) for side in sides)
    known = pd.Index(left.categories.astype(object)).append(
        pd.Index(right.categories.astype(object))
    )
    known = known.unique()
    return _numbers(left, known), _numbers(right, known)


def _numbers(values: pd.Categorical, known: pd.Index) -> Ints:
    # The code -1 of a missing value indexes the last element.
    places = np.append(known.get_indexer(values.categories.astype(object)), -1).astype(np.int64)
    found: Ints = places[np.asarray(values.codes, dtype=np.int64)]
    return found


def _combined(one: tuple[Ints, Ints], other: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
    """Return a dense code for each pair of codes, shared by both sides."""
    both = [np.concatenate(part) for part in (one, other)]
    if not len(both[0]):
        return one
    lowest = int(both[1].min())
    joined = both[0] * (int(both[1].max()) - lowest + 1) + (both[1] - lowest)
    numbers = pd.factorize(joined)[0].astype(np.int64)
    return numbers[: len(one[0])], numbers[len(one[0]) :]


def _occurrence(keys: Ints) -> Ints:
    """Return the number of equal keys before each key."""
    return np.asarray(pd.Series(keys).groupby(keys).cumcount(), dtype=np.int64)


def _alone(
    runs: pd.DataFrame, paired: Ints, dataset: tuple[Ints, Ints], task: tuple[Ints, Ints]
) -> UnpairedRuns:
    """Describe the runs of a side, the first of ``dataset`` and ``task``, that are not paired."""
    alone = np.ones(len(runs), dtype=bool)
    alone[paired] = False
    foreign = ~np.isin(dataset[0], dataset[1])
    unknown = ~np.isin(task[0], task[1]) & ~foreign
    tasks = sorted(set(runs["task_id"].to_numpy()[unknown].tolist()))
    others = runs[alone & ~foreign]
    named = tasks or [
        f"{name} (run {index})"
        for name, index in zip(others["task_id"], others["run_index"], strict=True)
    ]
    return UnpairedRuns(
        runs=int(alone.sum()),
        tasks=len(np.unique(task[0][unknown])),
        examples=tuple(str(name) for name in named[:_MOST_EXAMPLES]),
        datasets=tuple(sorted({str(name) for name in runs["dataset"].to_numpy()[foreign]})),
    )


Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Unscored:
    """Numbers of paired runs of one side that have no score, by the reason."""

    errors: int
    cancelled: int
    unknown: int
    """Scored runs whose score in this measure is unknown."""


@dataclass(frozen=True)
class MatchedScores:
    """The values on both sides of every unit that has scored pairs."""

    before: Floats
    after: Floats
    tasks: Clusters
    """The tasks of each unit."""
    runs: Ints
    """Number of pairs of each unit."""
    rows: Ints
    """Position among the pairs of one pair of each unit."""
    scored: npt.NDArray[np.bool_]
    """For each pair, whether it is scored on both sides."""

    def only(self, mask: npt.NDArray[np.bool_]) -> MatchedScores:
        """Return the units for which ``mask`` is true."""
        return replace(
            self,
            before=self.before[mask],
            after=self.after[mask],
            tasks=self.tasks.take(mask),
            runs=self.runs[mask],
            rows=self.rows[mask],
        )


def match(
    before: pd.DataFrame, after: pd.DataFrame, measure: Measure, *, cluster: Cluster
) -> MatchedScores:
    """Return the values of ``measure`` for the units of pairs; row i of both tables is a pair."""
    scores = run_scores(before, measure, Errors.EXCLUDE) + run_scores(
        after, measure, Errors.EXCLUDE
    )
    scored = ~np.isnan(scores)
    kept = np.flatnonzero(scored)
    left = before.iloc[kept].reset_index(drop=True)
    right = after.iloc[kept].reset_index(drop=True)
    # A unit is a task with one configuration of each side, so both tables get a joint identity.
    both = left["identity"].astype(str) + " " + right["identity"].astype(str)
    shared = {name: left[name] for name in ("dataset", "task_id", "benign_task", "malicious_task")}
    identity = pd.Categorical(both)
    one = units(left.assign(identity=identity), measure, cluster=cluster)
    other = units(right.assign(identity=identity, **shared), measure, cluster=cluster)
    return MatchedScores(one.values, other.values, one.tasks, one.runs, kept[one.rows], scored)


def unscored(paired: pd.DataFrame, measure: Measure) -> Unscored:
    """Count the paired runs of one side that have no score in ``measure``."""
    lacking = paired["status"][np.isnan(run_scores(paired, measure, Errors.EXCLUDE))]
    status = lacking.astype(str).value_counts()
    return Unscored(
        errors=int(status.get("error", 0)),
        cancelled=int(status.get("cancelled", 0)),
        unknown=int(status.get("scored", 0)),
    )
