"""Confidence sequences, and gates that are evaluated sequentially while runs end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isnan
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pytest_siren.metrics.gates.estimates import can_decide, with_exposure
from pytest_siren.metrics.gates.result import GateResult, Verdict
from pytest_siren.metrics.gates.selection import score_column
from pytest_siren.metrics.rates.choices import Unexposed
from pytest_siren.metrics.rates.measures import FINISHES, ExposureCounts
from pytest_siren.spec.gates import RATES, Gate

Floats = npt.NDArray[np.float64]

_BETS = np.float64(0.95) * np.float64(0.6) ** np.arange(10)
"""Shares of the capital that are bet, each by a tenth of it: small shares detect small differences,
large ones suit values that hardly vary."""
_HALVINGS = 32
_NEAREST = 1e-12


class ConfidenceSequence:
    """A confidence sequence for the mean of values within 0..1.

    At all times simultaneously, and so under any stopping rule, ``interval`` contains the mean with
    probability at least ``1 - alpha``, if each value has the same mean given all earlier ones. This
    is true of independent tasks, one value each, **in an order that does not depend on the
    values**: a random order fixed in advance, not the order in which runs end. It is not true of a
    second run of a task; see ``RoundSequence``.

    Proof: for each candidate mean m, a gambler who bets a share c of the capital on values above m
    multiplies it by ``1 + c * (x / m - 1)`` at the value x. If m is the mean, the capital is a
    martingale, and so is the mean of several gamblers' capital; by Ville's inequality (1939) it
    exceeds 2 / alpha at any time with probability at most alpha / 2. The interval excludes the
    rates at which it did, and those at which a bet on values below m paid as much. Capital falls
    (for the other side rises) with m, so the remaining rates are an interval.

    Adding a value takes less than a microsecond, ``side`` some 20 and ``interval`` some 600, if
    there are few distinct values (0 and 1, or means of some runs); both grow with their number.
    """

    def __init__(self, alpha: float = 0.05) -> None:
        if not 0.0 < alpha < 1.0:
            raise ValueError(f"a confidence sequence needs an alpha between 0 and 1, not {alpha}")
        self.alpha = alpha
        self._counts: dict[float, int] = {}
        self._low, self._high = 0.0, 1.0
        self._stale = False
        self._sides: dict[float, int] = {}

    @property
    def count(self) -> int:
        """Number of values added."""
        return sum(self._counts.values())

    def add(self, values: Iterable[float]) -> None:
        """Add the next values, in order. Raises ``ValueError`` for one outside 0..1."""
        for value in values:
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"a confidence sequence needs values within 0..1, not {value}")
            # A value very close to 0 or 1 is rounded, or the capital would overflow.
            known = float(value) if _NEAREST < value < 1.0 - _NEAREST else float(round(value))
            self._counts[known] = self._counts.get(known, 0) + 1
            self._stale = True
        self._sides.clear()

    def interval(self) -> tuple[float, float]:
        """Return the intersection of all intervals so far.

        If it is empty, which has a probability of at most ``alpha``, low exceeds high.
        """
        if self._stale:
            values, counts = self._seen()
            self._low = max(self._low, _lower_limit(values, counts, self.alpha / 2.0))
            self._high = min(self._high, 1.0 - _lower_limit(1.0 - values, counts, self.alpha / 2.0))
            self._stale = False
        return self._low, self._high

    def side(self, bound: float) -> int:
        """Return 1 if the interval lies above ``bound``, -1 if below, 0 if it contains it.

        This is faster than ``interval``, whose ends are not computed. ``bound`` is within 0..1.
        """
        if bound not in self._sides:
            self._sides[bound] = self._side(bound)
        return self._sides[bound]

    def _side(self, bound: float) -> int:
        if bound < self._low or bound > self._high:
            return 1 if bound < self._low else -1
        if not self._stale:
            return 0
        # A bet that excludes a rate excludes all farther ones, so a nearer rate is conservative.
        rate = min(max(bound, _NEAREST), 1.0 - _NEAREST)
        values, counts = self._seen()
        enough = -np.log(self.alpha / 2.0)
        if _log_capital(values, counts, rate) >= enough:
            return 1
        return -1 if _log_capital(1.0 - values, counts, 1.0 - rate) >= enough else 0

    def _seen(self) -> tuple[Floats, Floats]:
        return (
            np.fromiter(self._counts, np.float64),
            np.fromiter(self._counts.values(), np.float64),
        )


class RoundSequence:
    """A confidence sequence for the mean over tasks whose runs come in rounds.

    Round r holds the r-th run of each task. A task's second run is correlated with its first, so
    the values of all rounds violate the condition of ``ConfidenceSequence``. But for each round r,
    the means of the first r runs of each task, in the order of tasks, satisfy it. So each round has
    its own sequence with a share of ``alpha``: half of it for the first, in which most gates are
    decided, and the other half in equal parts. By the union bound their intersection contains the
    mean at all times simultaneously with probability at least ``1 - alpha``. In later rounds the
    means vary less, so that intervals get narrower.

    If units are correlated in other ways, such as the couples of one benign task, a value must be
    the mean over such a cluster, and the rate is the mean over clusters.
    """

    def __init__(self, rounds: int, alpha: float = 0.05) -> None:
        if rounds < 1:
            raise ValueError(f"a sequence of rounds needs one round at least, not {rounds}")
        shares = [alpha] if rounds == 1 else [alpha / 2] + [alpha / 2 / (rounds - 1)] * (rounds - 1)
        self._sequences: Sequence[ConfidenceSequence] = [ConfidenceSequence(a) for a in shares]

    def add(self, round_index: int, means: Iterable[float]) -> None:
        """Add means of tasks over their first ``round_index + 1`` runs, in the order of tasks.

        Every task occurs once in a round, in an order fixed in advance. Raises ``IndexError`` for a
        round that was not planned.
        """
        self._sequences[round_index].add(means)

    def interval(self) -> tuple[float, float]:
        """Return the intersection of the intervals of all rounds."""
        lows, highs = zip(*(one.interval() for one in self._sequences), strict=True)
        return max(lows), min(highs)

    def side(self, bound: float) -> int:
        """Return the first nonzero ``ConfidenceSequence.side`` of the rounds, else 0."""
        return next((side for one in self._sequences if (side := one.side(bound))), 0)


def _lower_limit(values: Floats, counts: Floats, tail: float) -> float:
    """Return the largest rate that bets on values above it exclude; 0 if they exclude none."""
    mean = float(values @ counts / counts.sum())
    if mean <= 0.0:
        return 0.0
    enough = -np.log(tail)
    low, high = 0.0, mean  # At the mean no constant bet wins, because log is concave.
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        if _log_capital(values, counts, middle) >= enough:
            low = middle
        else:
            high = middle
    return low


def _log_capital(values: Floats, counts: Floats, rate: float) -> float:
    logs = np.log1p(_BETS[:, None] * (values / rate - 1.0)) @ counts
    largest = float(logs.max())
    return largest + float(np.log(np.mean(np.exp(logs - largest))))


_GROWTH = 1.02
"""Factor by which the number of runs grows between evaluations of the interval; at least 1 run."""


class Step(NamedTuple):
    """A run, in the fixed order in which runs are counted."""

    run: Hashable
    task: Hashable
    round: int
    """0 for the first run of its task."""


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
    _scored: _Means = field(init=False)
    _against: _Means = field(init=False)

    def __post_init__(self) -> None:
        self._scored = _Means(RoundSequence(self.rounds, self.alpha))
        # To hold, the gate must also hold if runs without a score count against it.
        self._against = _Means(RoundSequence(self.rounds, self.alpha))

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
            self._against.add(step, self.gate.bad_score if value is None else value)
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
        against = self._against.sequence.interval() if self._unscored else ()
        if not any(self.gate.accepts(end) for end in (self.low, self.high)):
            self._decide(Verdict.BROKEN)
        elif all(self.gate.accepts(end) for end in (self.low, self.high, *against)):
            self._decide(Verdict.HELD)

    def _decide(self, verdict: Verdict) -> None:
        if self._of_attack and not can_decide(self.gate, verdict, self.exposed):
            return
        self.verdict, self.decided_after = verdict, self.used


@dataclass
class _Means:
    """Adds the mean of each task's runs so far to a sequence."""

    sequence: RoundSequence
    _sums: dict[Hashable, tuple[float, int]] = field(default_factory=dict)

    def add(self, step: Step, value: float) -> None:
        total, count = self._sums.get(step.task, (0.0, 0))
        total, count = total + value, count + 1
        self._sums[step.task] = total, count
        self.sequence.add(step.round, [total / count])


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
    bounds = f"{gate.low:.3f} to {gate.high:.3f}"
    bound = f"{gate.gate.bound:g}"
    runs = f"{gate.used:,} run{'' if gate.used == 1 else 's'}"
    if gate.decided_after is not None:
        side = "good" if gate.verdict is Verdict.HELD else "bad"
        why = f"the confidence sequence, {bounds}, is wholly on the {side} side of {bound}"
        why = f"{why} after {runs}"
    elif all(gate.gate.accepts(end) for end in (gate.low, gate.high)):
        why = (
            f"it would hold by what was scored ({bounds} after {runs}), but not if the runs "
            "without a score are counted against it"
        )
    else:
        why = f"the confidence sequence, {bounds}, has {bound} within after {runs}"
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
