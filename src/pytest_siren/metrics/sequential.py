"""Gates that are evaluated sequentially, while runs end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isnan
from typing import NamedTuple

import numpy as np

from pytest_siren.metrics.betting import RoundSequence, evidence_of_couples
from pytest_siren.metrics.gates.estimates import can_decide, with_exposure
from pytest_siren.metrics.gates.result import GateResult, Verdict
from pytest_siren.metrics.gates.selection import score_column
from pytest_siren.metrics.rates.choices import Unexposed
from pytest_siren.metrics.rates.measures import FINISHES, ExposureCounts
from pytest_siren.spec.gates import RATES, Gate

_GROWTH = 1.02
"""Factor by which the number of runs grows between evaluations of the interval; at least 1 run."""


class Step(NamedTuple):
    """A run, in the fixed order in which runs are counted."""

    run: Hashable
    task: Hashable
    round: int
    """0 for the first run of its task."""
    batch: int = 0
    """Of crossed tasks, the number of its batch: couples that share no task."""


class Outcome(NamedTuple):
    """Status and scores of an ended run."""

    status: str
    benign_score: float | None
    attack_score: float | None
    finish: str | None = None
    """How its answer ended; ``None`` if unknown."""
    exposed: bool | None = None
    """Whether the model was sent planted text; ``None`` without an attack, or if unknown."""


def can_stop_early(gate: Gate) -> bool:
    """Whether ``gate`` can be decided before all runs have ended.

    A gate on a vector cannot: the vectors of a run are unknown before it has ended.
    """
    return gate.measure in RATES and "vector" not in dict(gate.group)


@dataclass
class SequentialGate:
    """Evaluates one gate sequentially, while runs end.

    The probability of a wrong verdict at any time is at most ``alpha``.
    """

    gate: Gate
    steps: Sequence[Step]
    rounds: int
    alpha: float = 0.05
    unexposed: Unexposed = Unexposed.COUNT
    crossed: CrossedTasks | None = None
    """The tasks of the couples, if verdicts are about other tasks like these."""
    used: int = 0
    """Number of runs counted so far: those before the first one that has not ended."""
    verdict: Verdict = Verdict.INCONCLUSIVE
    low: float = 0.0
    high: float = 1.0
    decided_after: int | None = None
    _looked: int = 0
    _unscored: int = 0
    _exposures: Counter[bool | None] = field(default_factory=Counter)
    """Scored runs by whether their model was sent planted text."""
    _looks: frozenset[int] | None = None
    """Of crossed tasks, the numbers of counted runs at which the gate is evaluated."""
    _scored: _Means = field(init=False)
    _against: _Means = field(init=False)
    _in_favour: _Means = field(init=False)

    def __post_init__(self) -> None:
        if self.crossed is not None:
            self._looks = looks_after_batches(self.steps)
        # To hold, the gate must also hold if runs without a score count against it, and to be
        # broken, it must also be if they count for it.
        self._scored, self._against, self._in_favour = (self._means() for _ in range(3))

    def _means(self) -> _Means:
        if self.crossed is None or self._looks is None:
            return _Means(RoundSequence(self.rounds, self.alpha))
        # Half of the error is left for the interval over all runs.
        return _Means(_CrossedMeans(self.crossed, self.alpha / 4.0))

    @property
    def exhausted(self) -> bool:
        """Whether all runs have ended and the interval over all of them is to decide."""
        return self.crossed is not None and self.used == len(self.steps)

    def advance(self, outcomes: Mapping[Hashable, Outcome]) -> None:
        """Count the next runs in order, as far as they have ended, until the gate is decided."""
        while self.decided_after is None and self.used < len(self.steps):
            step = self.steps[self.used]
            outcome = outcomes.get(step.run)
            if outcome is None or outcome.status == "cancelled":
                return
            self.used += 1
            if outcome.status == "scored":
                self._exposures[outcome.exposed] += 1
            value = self._value(outcome)
            if value is not None:
                self._scored.add(step, value)
            else:
                self._unscored += 1
            bad = self.gate.bad_score
            self._against.add(step, bad if value is None else value)
            self._in_favour.add(step, 1.0 - bad if value is None else value)
            if self._looks is not None:
                if self.used in self._looks:
                    self._look()
                continue
            last = self.used == len(self.steps)
            if last or self.used >= max(self._looked + 1, int(self._looked * _GROWTH)):
                self._look()

    @property
    def exposed(self) -> ExposureCounts:
        """The scored runs so far, by whether planted text reached their model."""
        known = self._exposures
        return ExposureCounts(sum(known.values()), known[True], known[None])

    @property
    def _of_attack(self) -> bool:
        return score_column(self.gate.measure) == "attack_score"

    def with_exposure(self, result: GateResult) -> GateResult:
        """Return ``result`` with a note on runs that read no planted text."""
        return with_exposure(self.gate, result, self.exposed) if self._of_attack else result

    def _value(self, outcome: Outcome) -> float | None:
        failed = outcome.status == "error"
        if self.gate.measure == "error_rate":
            return float(failed)
        if self.gate.measure in FINISHES:
            known = outcome.finish if outcome.status == "scored" else None
            return None if known is None else float(known in FINISHES[self.gate.measure])
        score: float | None = getattr(outcome, score_column(self.gate.measure))
        if failed or score is None or isnan(score):
            return None
        if self._of_attack and outcome.exposed is False and score < 1.0:
            # As in metrics/rates/measures.py, a successful attack keeps its score.
            if self.unexposed is Unexposed.UNKNOWN:
                return None
        return float(score == 1.0) if self.gate.measure == "asr" else float(score)

    def _look(self) -> None:
        self._looked = self.used
        self.low, self.high = self._scored.sequence.interval()
        good = [self.gate.accepts(end) for end in (self.low, self.high)]
        if any(good) != all(good):
            return
        if self._unscored:
            contrary = self._against if all(good) else self._in_favour
            good += [self.gate.accepts(end) for end in contrary.sequence.interval()]
        if any(good) == all(good):
            self._decide(Verdict.HELD if all(good) else Verdict.BROKEN)

    def _decide(self, verdict: Verdict) -> None:
        if self._of_attack and not can_decide(self.gate, verdict, self.exposed):
            return
        self.verdict, self.decided_after = verdict, self.used


@dataclass
class _Means:
    """Adds the mean of each task's runs so far to a sequence."""

    sequence: RoundSequence | _CrossedMeans
    _sums: dict[Hashable, tuple[float, int]] = field(default_factory=dict)

    def add(self, step: Step, value: float) -> None:
        total, count = self._sums.get(step.task, (0.0, 0))
        total, count = total + value, count + 1
        self._sums[step.task] = total, count
        if isinstance(self.sequence, _CrossedMeans):
            self.sequence.means[step.task] = total / count
        else:
            self.sequence.add(step.round, [total / count])


@dataclass(frozen=True)
class CrossedTasks:
    """The tasks of planned couples, by the couple."""

    benign: Mapping[Hashable, int]
    malicious: Mapping[Hashable, int]
    suites: Mapping[Hashable, int]
    sizes: Sequence[int]
    """Number of planned couples of each suite."""


@dataclass
class _CrossedMeans:
    """Evidence of the means of couples so far, which share tasks."""

    tasks: CrossedTasks
    level: float
    """Of all looks, on either side; the k-th has the share ``1 / (k (k + 1))``."""
    looks: int = 0
    means: dict[Hashable, float] = field(default_factory=dict)

    def interval(self) -> tuple[float, float]:
        """Return the rates that the evidence of this look does not exclude."""
        self.looks += 1
        if not self.means:
            return 0.0, 1.0
        known = list(self.means)
        benign, malicious, suites = (
            np.fromiter((codes[one] for one in known), np.int64)
            for codes in (self.tasks.benign, self.tasks.malicious, self.tasks.suites)
        )
        values = np.fromiter(self.means.values(), np.float64)
        sizes = np.asarray([self.tasks.sizes[suite] for suite in np.unique(suites)], np.float64)
        found = evidence_of_couples(values, benign, malicious, suites, sizes=sizes)
        return found.interval(self.level / (self.looks * (self.looks + 1)))


def looks_after_batches(steps: Sequence[Step]) -> frozenset[int]:
    """Return the numbers of counted runs after which gates on crossed tasks are evaluated.

    Couples of one batch share no task, so that within it nothing is to be learned that tasks of the
    next have in common. The looks are after 1, 2, 4, 8 ... batches of the first round, and after
    each round, since every look has its share of the error.
    """
    ends: dict[tuple[int, int], int] = {}
    for number, step in enumerate(steps, 1):
        ends[step.round, step.batch] = number
    first = [end for (round_index, _), end in ends.items() if round_index == 0]
    doubled = {first[2**power - 1] for power in range(len(first).bit_length())}
    rounds = {step.round: number for number, step in enumerate(steps, 1)}
    return frozenset(doubled | set(rounds.values()))


def advance(gates: Iterable[SequentialGate], outcomes: Mapping[Hashable, Outcome]) -> bool:
    """Advance all gates. Return whether every one is decided."""
    decided = True
    for gate in gates:
        gate.advance(outcomes)
        decided = decided and gate.decided_after is not None
    return decided


def sequential_result(gate: SequentialGate, found: GateResult) -> GateResult:
    """Return ``found``, the result over all runs so far, with the verdict of the sequence."""
    if found.value is None:
        return found
    if gate.decided_after is None and gate.exhausted:
        after = "batches of couples were looked at with the other half of the error"
        return gate.with_exposure(replace(found, why=f"{found.why} ({after})"))
    bounds = f"{gate.low:.3f} to {gate.high:.3f}"
    bound = f"{gate.gate.bound:g}"
    runs = f"{gate.used:,} run{'' if gate.used == 1 else 's'}"
    if gate.decided_after is not None:
        side = "good" if gate.verdict is Verdict.HELD else "bad"
        why = f"the {_sequence(gate)}, {bounds}, is wholly on the {side} side of {bound}"
        why = f"{why} after {runs}"
    elif len({gate.gate.accepts(end) for end in (gate.low, gate.high)}) == 1:
        holds = gate.gate.accepts(gate.low)
        would, how = ("hold", "against") if holds else ("be broken", "for")
        why = (
            f"it would {would} by what was scored ({bounds} after {runs}), but not if the runs "
            f"without a score are counted {how} it"
        )
    else:
        why = f"the {_sequence(gate)}, {bounds}, has {bound} within after {runs}"
        if found.pending:
            why += f"; {found.pending:,} have not ended"
    pending = 0 if gate.decided_after is not None else found.pending
    return gate.with_exposure(
        replace(
            found,
            verdict=gate.verdict,
            low=gate.low,
            high=gate.high,
            pending=pending,
            why=why,
            more_runs=None,
        )
    )


def _sequence(gate: SequentialGate) -> str:
    return "confidence sequence" if gate.crossed is None else "bound over batches of couples"
