"""The measures: which runs and units each of them counts, and its value for each unit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isnan
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from pytest_siren.evaluation.scores import UNFINISHED, WORDS, AttackStage, Finish
from pytest_siren.metrics.rates.attributable import excess
from pytest_siren.metrics.rates.choices import Cluster as Cluster
from pytest_siren.metrics.rates.choices import Errors as Errors
from pytest_siren.metrics.rates.choices import Estimate
from pytest_siren.metrics.rates.intervals import Clusters, estimate_with_undecided
from pytest_siren.spec.gates import ALARMS, STAGES
from pytest_siren.text.words import counted

if TYPE_CHECKING:
    import pandas as pd


class EndedRun(Protocol):
    """Status and scores of a run that has ended."""

    @property
    def status(self) -> str: ...
    @property
    def benign_score(self) -> float | None: ...
    @property
    def attack_score(self) -> float | None: ...


class PassAtK(NamedTuple):
    """pass@k or pass^k: a measure over all k runs of a task."""

    of_attacker: bool
    """Whether it uses the attack score rather than the benign one."""
    all_of: bool
    """Whether all runs must succeed (pass^k) rather than one of them (pass@k)."""
    k: int

    @classmethod
    def of(cls, measure: str) -> PassAtK:
        """Return the measure named ``measure``, such as ``attack_pass@5``."""
        stem, _, k = measure.replace("^", "@").partition("@")
        return cls(stem == "attack_pass", "^" in measure, int(k))

    def __str__(self) -> str:
        stem = "attack_pass" if self.of_attacker else "benign_pass"
        return f"{stem}{'^' if self.all_of else '@'}{self.k}"

    def decided_by(self, run: EndedRun) -> bool:
        """Whether ``run`` alone fixes the task's value, whatever its other runs score."""
        score = run.attack_score if self.of_attacker else run.benign_score
        if run.status != "scored" or score is None or isnan(score):
            return False
        return (score == 1.0) != self.all_of


PassAtKByJob = Mapping[str, Sequence[PassAtK]]
"""Identity of each job whose tasks may end early to the measures that its gates use."""


def joined_names(names: Iterable[object]) -> str:
    """Return the names of measures as one value of the column ``decided``, sorted."""
    return " ".join(sorted({str(name) for name in names}))


@dataclass
class PassAtKTracker:
    """Tracks which tasks are decided, so that their remaining runs can be skipped."""

    jobs: PassAtKByJob
    """A task is decided once all measures of its job are."""
    decided: set[tuple[str, str]] = field(default_factory=set)
    """Identity of the job and id of the task."""
    _open: dict[tuple[str, str], set[PassAtK]] = field(default_factory=dict)

    def add(self, identity: str, task: str, run: EndedRun) -> bool:
        """Add an ended run. Return whether it decides its task, which was undecided before."""
        questions = self.jobs.get(identity)
        key = identity, task
        if questions is None or key in self.decided:
            return False
        still = self._open.setdefault(key, set(questions))
        still -= {question for question in still if question.decided_by(run)}
        if still:
            return False
        self.decided.add(key)
        del self._open[key]
        return True

    def needs(self, identity: str, task: str, run_index: int) -> bool:
        """Whether a run must be executed. The first run of a task always must."""
        return run_index == 0 or (identity, task) not in self.decided

    def left(self, ended: Iterable[tuple[str, str, int]]) -> dict[str, int]:
        """Return, by identity, how many runs of decided tasks are not among the ``ended`` ones.

        First runs are not counted: a first run that has not ended is pending, not skipped.
        """
        left = dict.fromkeys(self.jobs, 0)
        for identity, _ in self.decided:
            left[identity] += self.jobs[identity][0].k - 1
        for identity, task, run_index in set(ended):
            if (identity, task) in self.decided and 0 < run_index < self.jobs[identity][0].k:
                left[identity] -= 1
        return left


def tracker_for(names: Mapping[str, Iterable[str]]) -> PassAtKTracker:
    """Return a tracker for jobs, given the measures by which tasks of each may end early."""
    questions = {one: tuple(map(PassAtK.of, of_job)) for one, of_job in names.items()}
    return PassAtKTracker(questions)


Mask = npt.NDArray[np.bool_]


def ended_early(runs: pd.DataFrame) -> Mask:
    """Return for each run whether tasks of its job may have ended early."""
    mask: Mask = runs["decided"].cat.codes.to_numpy() >= 0
    return mask


def decided_by(runs: pd.DataFrame, measure: Measure) -> Mask:
    """Return for each run whether tasks of its job may have ended early by ``measure``."""
    if measure.k == 1:
        return np.zeros(len(runs), dtype=bool)
    column: Any = runs["decided"].cat
    name = str(PassAtK(measure.stem == "attack_pass", measure.all_of, measure.k))
    # The code -1 of a missing value indexes the last element.
    among = [name in str(names).split() for names in column.categories] + [False]
    mask: Mask = np.asarray(among, dtype=bool)[column.codes.to_numpy()]
    return mask


def unbiased_runs(runs: pd.DataFrame, measure: Measure) -> Mask:
    """Return for each run whether ``measure`` may count it without bias.

    Of tasks that end early by ``measure`` itself, the first k runs may count. Of tasks that end
    early by other measures only the first run may: whether a task has a second one depends on the
    score of the first.
    """
    early = ended_early(runs)
    if not early.any():
        return ~early
    most = np.where(decided_by(runs, measure), measure.k, 1)
    return ~early | (runs["run_index"].to_numpy() < most)


Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_NAME = re.compile(r"(?P<stem>[a-z_]+)(?:(?P<kind>[@^])(?P<k>\d+))?")
FINISHES = {"incomplete_rate": UNFINISHED, "refusal_rate": (Finish.REFUSED,)}
"""Measures of how answers ended, with the finishes that each counts."""
PLAIN = (
    *("utility", "utility_under_attack", "asr", "error_rate", "exposure"),
    *STAGES,
    *FINISHES,
    *ALARMS,
)
OVER_K = ("pass", "benign_pass", "attack_pass")
_OF_ATTACKER = ("asr", "attack_pass", "asr_exposed", "asr_attributable", "attempt_rate")


@dataclass(frozen=True)
class Measure:
    """A measure, such as ``asr``, ``utility`` or ``pass@5``."""

    stem: str
    """One of ``PLAIN`` or ``OVER_K``."""
    all_of: bool = False
    """Whether all ``k`` runs must succeed (pass^k) rather than one of them (pass@k)."""
    k: int = 1
    queries: int = 0
    """Of ``asr@q``: the tries within which an attack that searches must succeed; 0 for all."""

    @classmethod
    def of(cls, name: str) -> Measure:
        """Return the measure called ``name``. Raises ``ValueError`` for an unknown one."""
        found = _NAME.fullmatch(name)
        if found is not None:
            stem, kind = found["stem"], found["kind"]
            if kind is None and stem in PLAIN:
                return cls(stem)
            if kind == "@" and stem == "asr" and int(found["k"]) >= 1:
                return cls(stem, queries=int(found["k"]))
            if kind is not None and stem in OVER_K and int(found["k"]) >= 1:
                return cls(stem, kind == "^", int(found["k"]))
        known = ", ".join([*PLAIN, "asr@q", *(f"{stem}@k or ^k" for stem in OVER_K)])
        raise ValueError(f"unknown measure {name!r}; known are {known}, with a k or q of 1 or more")

    def __str__(self) -> str:
        if self.queries:
            return f"{self.stem}@{self.queries}"
        if self.stem in PLAIN:
            return self.stem
        return f"{self.stem}{'^' if self.all_of else '@'}{self.k}"


@dataclass(frozen=True)
class Units:
    """One value for each unit that has enough runs."""

    values: Floats
    """Values within 0..1, shape ``(units,)``; of ``asr_attributable`` those of ``asr``."""
    runs: Ints
    """Number of runs of each unit, shape ``(units,)``."""
    tasks: Clusters
    """The tasks of each unit, by which units may be correlated."""
    rows: Ints
    """Position in the table of one run of each unit, shape ``(units,)``."""
    short_rows: Ints
    """Like ``rows``, for the units left out because they have fewer runs than the measure needs."""
    open_rows: Ints
    """The part of ``short_rows`` whose tasks may end early and are undecided.

    Leaving them out biases the mean towards the score that decides a task.
    """
    open_tasks: Clusters
    """``tasks`` of ``open_rows``."""
    placebo: Floats | None = None
    """What is subtracted from ``values``, which only ``asr_attributable`` has."""

    @property
    def short(self) -> int:
        """Number of units left out."""
        return len(self.short_rows)


def units(
    runs: pd.DataFrame,
    measure: Measure,
    *,
    cluster: Cluster = Cluster.CROSSED,
    errors: Errors = Errors.EXCLUDE,
    missing: float | None = None,
) -> Units:
    """Return the values of ``measure`` for the units of ``runs``, a table of ``metrics/frame.py``.

    ``utility`` and ``pass`` count runs without an attack, ``utility_under_attack`` and ``asr``
    attacked ones, ``benign_pass`` and ``attack_pass`` all that have the score, ``error_rate`` all
    that ended, ``incomplete_rate`` and ``refusal_rate`` scored ones, and ``exposure`` scored
    attacked ones: it is the share whose model was sent planted text. ``asr_exposed`` is the ``asr``
    of these runs alone, ``attempt_rate`` the share of runs whose model made a call that the
    attacker wants, or that the attacker won, ``asr_placebo`` what the same evaluators say of runs
    without an attack, ``asr_attributable`` the ``asr`` less that, and ``secure_utility`` the
    utility of runs that the attacker did not win, 0 of those that it did. Of agents with
    defences, ``alarm_rate`` (attacked runs) and ``false_alarm_rate`` (others) are the shares in
    which one was triggered. For k > 1, and for ``asr``, a run succeeds if its score is exactly 1.0.
    pass@k is the unbiased estimator of Chen et al. 2021 (arXiv:2107.03374), pass^k that of Yao et
    al. 2024 (arXiv:2406.12045): ``C(c, k) / C(n, k)`` for c successes in n runs.

    If tasks end early by ``measure``, a task is 1 (pass@k) or 0 (pass^k) as soon as one of its
    first k runs decides it; if they end early by other measures, only first runs count.

    With ``missing``, ended runs without a score have that one.
    """
    scores = run_scores(runs, measure, errors)
    if missing is not None:
        scores = np.where(lacks_score(runs, measure, scores), missing, scores)
    kept = np.flatnonzero(~np.isnan(scores))
    scores = scores[kept]
    unit = unit_codes(runs)[kept]
    early = decided_by(runs, measure)[kept]
    if early.any():
        # Another job's runs of the same task are a separate sample.
        unit = _combined(unit, np.where(early, _codes(runs, ("job",))[kept], -1))
    # The units that occur, each with the position of its first run.
    _, first, unit = np.unique(unit, return_index=True, return_inverse=True)
    counts = np.bincount(unit, minlength=len(first)).astype(np.int64)
    if measure.k == 1:
        values = _sums(unit, scores, len(first)) / np.maximum(counts, 1)
    else:
        successes = np.bincount(unit, weights=scores == 1.0, minlength=len(first)).astype(
            np.float64
        )
        values = pass_at_k_of_units(counts, successes, measure)
    enough = counts >= measure.k
    ends = early[first]
    if ends.any():
        decided = counts > successes if measure.all_of else successes > 0
        values = np.where(ends, decided != measure.all_of, values)
        enough |= ends & decided
    rows = kept[first]
    tasks = clusters_of(runs, measure, cluster).take(rows)
    return Units(
        values=values[enough],
        runs=counts[enough],
        tasks=tasks.take(enough),
        rows=rows[enough],
        short_rows=rows[~enough],
        open_rows=rows[~enough & ends],
        open_tasks=tasks.take(~enough & ends),
        placebo=_placebo(runs)[rows][enough] if measure.stem == "asr_attributable" else None,
    )


def rate(
    runs: pd.DataFrame,
    measure: Measure,
    *,
    cluster: Cluster = Cluster.CROSSED,
    errors: Errors = Errors.EXCLUDE,
    confidence: float = 0.95,
) -> Estimate | None:
    """Return the mean of ``measure`` over units with its interval; ``None`` without any unit.

    The interval allows for any value of units that are undecided because tasks end early.
    """
    found = units(runs, measure, cluster=cluster, errors=errors)
    if not len(found.values):
        return None
    made = estimate_of(found, measure, confidence=confidence)
    worst = worst_values(runs, measure, found, np.zeros(len(runs), dtype=np.int64), 1, errors)
    return replace(made, short=found.short, worst=worst[0])


def estimate_of(
    found: Units,
    measure: Measure,
    places: Ints | None = None,
    undecided: Ints | None = None,
    *,
    confidence: float = 0.95,
) -> Estimate:
    """Return the mean of ``measure`` over the units at ``places``, at least one, and its interval.

    ``undecided`` are the positions in ``open_rows`` of undecided units beside them. Without both it
    is that of all.
    """
    places = np.arange(len(found.values)) if places is None else places
    undecided = np.arange(len(found.open_rows)) if undecided is None else undecided
    values, tasks = found.values[places], found.tasks.take(places)
    runs = int(found.runs[places].sum())
    if found.placebo is not None:
        return excess(values, found.placebo[places], tasks, runs=runs, confidence=confidence)
    return estimate_with_undecided(
        values,
        tasks,
        found.open_tasks.take(undecided),
        runs=runs,
        k=measure.k,
        confidence=confidence,
    )


def lacks_score(runs: pd.DataFrame, measure: Measure, scores: Floats) -> Bools:
    """Return for each run whether it ended without the score, of ``scores``, that it should have.

    Of tasks that ended early, runs that would bias the measure should have none.
    """
    ended = runs["status"].isin(("scored", "error")).to_numpy(bool)
    applies = stem_applies_to(runs, measure.stem) & unbiased_runs(runs, measure)
    lacking: Bools = np.isnan(scores) & ended & applies
    return lacking


def worst_values(
    runs: pd.DataFrame, measure: Measure, known: Units, number: Ints, groups: int, errors: Errors
) -> list[tuple[float, float] | None]:
    """Return ``Estimate.worst`` of each of ``groups``; ``number`` holds the group of each run.

    ``known`` are the units of ``runs`` as they are. ``None`` for a group without any unit, and for
    a difference of rates.
    """
    if measure.stem == "asr_attributable":
        return [None] * groups
    missing = lacks_score(runs, measure, run_scores(runs, measure, errors))
    ends = []
    for end in (0.0, 1.0) if missing.any() else (None,):
        found = known if end is None else units(runs, measure, errors=errors, missing=end)
        of_group = number[found.rows]
        counts = np.bincount(of_group, minlength=groups)
        sums = np.bincount(of_group, weights=found.values, minlength=groups)
        ends.append(np.clip(sums / np.maximum(counts, 1), 0.0, 1.0).tolist())
    return [
        (float(low), float(high)) if count else None
        for low, high, count in zip(ends[0], ends[-1], counts.tolist(), strict=True)
    ]


def run_scores(runs: pd.DataFrame, measure: Measure, errors: Errors) -> Floats:
    """Return the score of each run in ``measure``; NaN for a run that the measure does not count.

    A measure does not count runs that it does not apply to, runs without a known score, and runs of
    tasks that ended early which would bias it (``unbiased_runs``).
    """
    return np.where(unbiased_runs(runs, measure), _scores(runs, measure, errors), np.nan)


def stem_applies_to(runs: pd.DataFrame, stem: str) -> Bools:
    """Return for each run whether measures with this ``stem`` count it once it has ended."""
    attacked: Bools = runs["attack"].notna().to_numpy()
    if stem == "asr_exposed":
        # A run that crashed before it read anything might have read it later.
        unread = (runs["exposed"] == 0.0) & (runs["status"] == "scored")
        return attacked & ~unread.to_numpy(np.bool_)
    if stem in ("asr", "attack_pass", "utility_under_attack", "exposure", "alarm_rate", *STAGES):
        return attacked
    if stem in ("utility", "pass", "false_alarm_rate"):
        return ~attacked
    return np.ones(len(runs), dtype=bool)


def decided_runs(runs: pd.DataFrame, measure: Measure) -> Bools:
    """Return for each run whether its task is decided by ``measure``, and so ended early."""
    early = decided_by(runs, measure)
    if not early.any():
        return early
    scores = run_scores(runs, measure, Errors.EXCLUDE)
    deciding = early & ~np.isnan(scores) & ((scores == 1.0) != measure.all_of)
    task = _codes(runs, ("identity", "job", "dataset", "task_id"))
    return early & np.isin(task, task[deciding])


def _scores(runs: pd.DataFrame, measure: Measure, errors: Errors) -> Floats:
    stem = measure.stem
    failed = (runs["status"] == "error").to_numpy()
    scored = (runs["status"] == "scored").to_numpy()
    applies = stem_applies_to(runs, stem)
    if stem == "error_rate":
        return np.where(failed | scored, failed.astype(np.float64), np.nan)
    if stem in FINISHES:
        return _finishes(runs, stem)
    if stem in ("exposure", "asr_placebo"):
        known = _column(runs, "exposed") if stem == "exposure" else _placebo(runs)
        return np.where(scored & applies, known, np.nan)
    if stem in ALARMS:
        return np.where(scored & applies, _column(runs, "triggered"), np.nan)
    scores = np.where(scored, _known_scores(runs, stem), np.nan)
    if errors is not Errors.EXCLUDE:
        counted = 1.0 if stem in _OF_ATTACKER and errors is Errors.SUCCESS else 0.0
        scores = np.where(failed, counted, scores)
    if stem == "asr_exposed":
        applies = applies & (_column(runs, "exposed") == 1.0)
    if stem == "asr_attributable":
        applies = applies & ~np.isnan(_placebo(runs))
    if measure.queries:
        late, applies = _later(runs, measure.queries, applies)
        scores = np.where(late & (scores == 1.0) & scored, 0.0, scores)
    return np.where(applies, scores, np.nan)


def _known_scores(runs: pd.DataFrame, stem: str) -> Floats:
    """Return what scored runs count in measures with this ``stem``; NaN where it is unknown."""
    attack, benign = _column(runs, "attack_score"), _column(runs, "benign_score")
    if stem == "attack_pass":
        return attack
    if stem == "attempt_rate":
        return _column(runs, "attempted")
    if stem.startswith("asr"):
        return np.where(np.isnan(attack), np.nan, (attack == 1.0).astype(np.float64))
    if stem == "secure_utility":
        # Either score alone may be enough to know that it is 0.
        return np.where((attack == 1.0) | (benign == 0.0), 0.0, benign + attack * 0.0)
    return benign


def _later(runs: pd.DataFrame, queries: int, applies: Bools) -> tuple[Bools, Bools]:
    """Return which successes took more tries than ``queries``, and to which runs that applies.

    A run whose budget was smaller does not tell what would have been. An attack that does not
    search has one try.
    """
    first, budget = _column(runs, "first_success"), _column(runs, "query_budget")
    searched = ~np.isnan(budget)
    return searched & (first > queries), applies & (np.where(searched, budget, 1.0) >= queries)


def _column(runs: pd.DataFrame, name: str) -> Floats:
    return runs[name].to_numpy(np.float64)


def _placebo(runs: pd.DataFrame) -> Floats:
    return _column(runs, "placebo")


def tells_more(name: str, values: Mapping[str, float | None]) -> bool:
    """Whether ``name``, one of ``STAGES``, tells a reader more than the measures beside it.

    ``values`` holds these by name: ``asr``, ``exposure``, ``utility_under_attack`` and ``STAGES``.
    """
    found = values.get(name)
    if found is None:
        return False
    match name:
        case "asr_exposed":
            return values.get("exposure") != 1.0
        case "attempt_rate":
            return found != values.get("asr")
        case "asr_placebo":
            return False  # ``asr_attributable`` is beside it.
        case "asr_attributable":
            return values.get("asr_placebo") != 0.0
    # Where the attacker always won it is 0.
    return found != values.get("utility_under_attack") and values.get("asr") != 1.0


def unit_codes(runs: pd.DataFrame) -> Ints:
    """Return a code for each run, equal for runs of one task in one configuration."""
    return _combined(_codes(runs, ("identity",)), _codes(runs, ("dataset", "task_id")))


def clusters_of(runs: pd.DataFrame, measure: Measure, cluster: Cluster) -> Clusters:
    """Return the tasks of each run, as codes.

    By default errors are clustered by couple: they are of providers and programs, and show nothing
    about other tasks.
    """
    if measure.stem == "error_rate" and cluster == Cluster.CROSSED:
        cluster = Cluster.COUPLE
    benign = _codes(runs, ("dataset", "suite", "benign_task"))
    malicious = _codes(runs, ("dataset", "suite", "malicious_task"))
    without = runs["malicious_task"].isna().to_numpy()
    return Clusters(
        kind=Cluster(cluster),
        couples=_codes(runs, ("dataset", "suite", "task_id")),
        benign=benign,
        malicious=np.where(without, -1 - benign, malicious),
        strata=_codes(runs, ("dataset", "suite")),
    )


def finishes(runs: pd.DataFrame) -> dict[str, int]:
    """Return the number of scored ``runs`` by how their last answer ended."""
    counts = runs.loc[runs["status"] == "scored", "finish"].value_counts()
    return {str(name): int(count) for name, count in counts.items() if count}


def stages(runs: pd.DataFrame) -> dict[str, int]:
    """Return the number of scored attacked ``runs`` by how far the attack came, nearest last.

    Those of which it is unknown are under ``unknown``.
    """
    attacked = runs[(runs["status"] == "scored") & runs["attack"].notna()]
    counts = attacked["stage"].value_counts(sort=False)
    found = {stage.value: int(counts.get(stage.value, 0)) for stage in AttackStage}
    return {**found, "unknown": len(attacked) - sum(found.values())} if len(attacked) else {}


def _finishes(runs: pd.DataFrame, stem: str) -> Floats:
    """Return 1 for each run whose last answer ended in a way that ``stem`` counts, else 0.

    Runs in error are unknown (NaN), whatever ``Errors`` makes of their scores.
    """
    found = runs["finish"].isin([finish.value for finish in FINISHES[stem]]).to_numpy(np.float64)
    known = (runs["status"] == "scored").to_numpy() & runs["finish"].notna().to_numpy()
    return np.where(known, found, np.nan)


def _sums(unit: Ints, scores: Floats, number: int) -> Floats:
    """Return the sum of ``scores`` of each unit, independent of the order of its runs."""
    if not np.all((scores == 0.0) | (scores == 1.0)):
        order = np.lexsort((scores, unit))
        unit, scores = unit[order], scores[order]
    return np.bincount(unit, weights=scores, minlength=number).astype(np.float64)


def pass_at_k_of_units(counts: Ints, successes: Floats, measure: Measure) -> Floats:
    """Return pass@k or pass^k of each unit from its runs and successes, for a ``k`` above 1."""
    drawn = np.arange(measure.k)
    pool = successes if measure.all_of else counts - successes
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = (pool[:, None] - drawn) / (counts[:, None] - drawn)
    # With fewer than k in the pool, there is no way to draw k of it.
    same: Floats = np.prod(np.clip(parts, 0.0, 1.0), axis=1)
    return same if measure.all_of else 1.0 - same


def _codes(runs: pd.DataFrame, columns: tuple[str, ...]) -> Ints:
    """Return a code of 0 or more for each row, equal for rows equal in all of ``columns``."""
    first, *others = (runs[name].cat.codes.to_numpy().astype(np.int64) for name in columns)
    first = first + 1
    for other in others:
        first = _combined(first, other)
    return first


def _combined(left: Ints, right: Ints) -> Ints:
    if not len(left):
        return left
    lowest = int(right.min())
    return left * (int(right.max()) - lowest + 1) + (right - lowest)


@dataclass(frozen=True)
class ExposureCounts:
    """Counts of scored attacked runs by whether their model was sent planted text."""

    runs: int
    exposed: int
    """Runs whose model was sent planted text."""
    unknown: int
    """Runs for which it is unknown."""

    @classmethod
    def of(cls, known: Iterable[bool | float | None]) -> ExposureCounts:
        """Count values of ``exposed``, one for each run; ``None`` or NaN where it is unknown."""
        values = np.asarray(list(known), dtype=np.float64)
        unknown = int(np.isnan(values).sum())
        return cls(len(values), int((values == 1.0).sum()), unknown)

    @property
    def none(self) -> bool:
        """Whether no run is known to be exposed, and some are known not to be."""
        return not self.exposed and self.unknown < self.runs

    @property
    def every(self) -> bool:
        """Whether all runs are known to be exposed."""
        return self.exposed == self.runs


def count_exposed(runs: pd.DataFrame) -> ExposureCounts:
    """Count the scored attacked runs of ``runs``, a table of ``metrics/frame.py``."""
    attacked = (runs["status"] == "scored").to_numpy() & runs["attack"].notna().to_numpy()
    return ExposureCounts.of(runs["exposed"].to_numpy(np.float64)[attacked])


def unexposed_as_unknown(runs: pd.DataFrame) -> pd.DataFrame:
    """Return ``runs`` with unknown attack scores where the model was not sent planted text.

    A successful attack keeps its score of 1.
    """
    scores = runs["attack_score"].to_numpy(np.float64)
    unexposed: npt.NDArray[np.bool_] = (runs["exposed"] == 0.0).to_numpy() & (scores < 1.0)
    return runs.assign(attack_score=np.where(unexposed, np.nan, scores))


def sent_note(found: ExposureCounts) -> str:
    """Return how many runs' models were sent planted text, as a note; empty if all were."""
    if found.every:
        return ""
    if found.unknown == found.runs:
        what = "whether planted text was sent to the model"
        return f"{what} is unknown in {found.runs:,} of {found.runs:,} attacked runs"
    unknown = f" (unknown for {found.unknown:,})" if found.unknown else ""
    return (
        f"planted text was sent to the model in {found.exposed:,} of {found.runs:,} attacked "
        f"runs{unknown}"
    )


def read_note(found: ExposureCounts) -> str:
    """Return how many runs read the planted text, as a note; empty if all did."""
    if found.every:
        return ""
    if found.unknown == found.runs:
        of_all = f"{found.runs:,} of {_runs(found.runs)}"
        return f"whether the planted text was read is unknown for {of_all}"
    unknown = f", unknown for {found.unknown:,}" if found.unknown else ""
    return f"of {_runs(found.runs)} {found.exposed:,} read the planted text{unknown}"


def _runs(number: int) -> str:
    return counted(number, "run")


def spoken(counts: Mapping[str, int]) -> list[str]:
    """Return what tables say of ``counts``, runs by how their answers ended, but for whole ones."""
    return [f"{counts[name]:,} {words}" for name, words in WORDS.items() if counts.get(name)]
