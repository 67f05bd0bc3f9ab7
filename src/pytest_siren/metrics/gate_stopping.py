"""Settles a gate while its runs come in, so that the rest need not be taken.

Runs are taken in rounds: the first run of every task in an order that nothing but the configuration
decides, then every second run, and so on. What is known at any time is the beginning of that order;
later runs that ended before it do not count yet, or the quick ones would count first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isnan
from typing import NamedTuple

from pytest_siren.metrics.choices import Unexposed
from pytest_siren.metrics.exposed import Exposed
from pytest_siren.metrics.gate_exposure import can_settle, with_exposure
from pytest_siren.metrics.gate_runs import score_column
from pytest_siren.metrics.measures import FINISHES
from pytest_siren.metrics.sequences import RoundSequence
from pytest_siren.metrics.verdicts import GateResult, Verdict
from pytest_siren.spec.gates import RATES, Gate

_GROWTH = 1.02
"""From one look at the interval to the next, runs grow by so much, or by one."""


class Step(NamedTuple):
    """A run in the order in which runs count."""

    run: Hashable
    task: Hashable
    round: int
    """0 for the first run of its task."""


class Outcome(NamedTuple):
    """What a run came to."""

    status: str
    benign_score: float | None
    attack_score: float | None
    finish: str | None = None
    """How its answer ended; ``None`` where nobody knows."""
    exposed: bool | None = None
    """Whether the model was sent planted text; ``None`` without an attack, or if unknown."""


def can_be_settled(gate: Gate) -> bool:
    """Whether some of the runs may be enough to judge ``gate``.

    Which vectors a run uses is not known before it has ended.
    """
    return gate.measure in RATES and "vector" not in dict(gate.group)


@dataclass
class Settling:
    """One gate on its way to a verdict.

    The probability that the verdict is ever wrong is 5 % at most (``metrics/sequences.py``).
    """

    gate: Gate
    steps: Sequence[Step]
    rounds: int
    alpha: float = 0.05
    unexposed: Unexposed = Unexposed.COUNT
    used: int = 0
    """Runs at the beginning of the order that have ended."""
    verdict: Verdict = Verdict.INCONCLUSIVE
    low: float = 0.0
    high: float = 1.0
    settled_after: int | None = None
    _looked: int = 0
    _unscored: int = 0
    _exposures: Counter[bool | None] = field(default_factory=Counter)
    """Scored runs by whether their model was sent planted text."""
    _scored: _Means = field(init=False)
    _against: _Means = field(init=False)

    def __post_init__(self) -> None:
        self._scored = _Means(RoundSequence(self.rounds, self.alpha))
        # A run without a score counts against the gate in what must hold for it to hold.
        self._against = _Means(RoundSequence(self.rounds, self.alpha))

    def advance(self, outcomes: Mapping[Hashable, Outcome]) -> None:
        """Take in what is known of the next runs, until the gate is settled."""
        while self.settled_after is None and self.used < len(self.steps):
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
    def exposed(self) -> Exposed:
        """The scored runs so far by what their model was sent."""
        known = self._exposures
        return Exposed(sum(known.values()), known[True], known[None])

    @property
    def _of_attack(self) -> bool:
        return score_column(self.gate.measure) == "attack_score"

    def with_exposure(self, result: GateResult) -> GateResult:
        """Return ``result`` with a word about runs that read no planted text."""
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
            # As in metrics/exposed.py: an attacker who won all the same has won.
            if self.unexposed is Unexposed.UNKNOWN:
                return None
        return float(score == 1.0) if self.gate.measure == "asr" else float(score)

    def _look(self) -> None:
        self._looked = self.used
        self.low, self.high = self._scored.sequence.interval()
        against = self._against.sequence.interval() if self._unscored else ()
        if not any(self.gate.accepts(end) for end in (self.low, self.high)):
            self._settle(Verdict.BROKEN)
        elif all(self.gate.accepts(end) for end in (self.low, self.high, *against)):
            self._settle(Verdict.HELD)

    def _settle(self, verdict: Verdict) -> None:
        if self._of_attack and not can_settle(self.gate, verdict, self.exposed):
            return
        self.verdict, self.settled_after = verdict, self.used


@dataclass
class _Means:
    """The mean of each task's runs so far, as they go into a sequence."""

    sequence: RoundSequence
    _sums: dict[Hashable, tuple[float, int]] = field(default_factory=dict)

    def add(self, step: Step, value: float) -> None:
        total, count = self._sums.get(step.task, (0.0, 0))
        total, count = total + value, count + 1
        self._sums[step.task] = total, count
        self.sequence.add(step.round, [total / count])


def advance(gates: Iterable[Settling], outcomes: Mapping[Hashable, Outcome]) -> bool:
    """Take in what is known, and tell whether every gate is settled."""
    settled = True
    for gate in gates:
        gate.advance(outcomes)
        settled = settled and gate.settled_after is not None
    return settled


def settled_result(gate: Settling, found: GateResult) -> GateResult:
    """Return what came of ``gate``: ``found`` by all runs so far, with the sequence's verdict."""
    if found.value is None:
        return found
    bounds = f"{gate.low:.3f} to {gate.high:.3f}"
    bound = f"{gate.gate.bound:g}"
    runs = f"{gate.used:,} run{'' if gate.used == 1 else 's'}"
    if gate.settled_after is not None:
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
    pending = 0 if gate.settled_after is not None else found.pending
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
