"""What a gate on attacks makes of runs whose model was never sent the planted text."""

from __future__ import annotations

from dataclasses import replace

from pytest_siren.metrics.exposed import Exposed, read_note
from pytest_siren.metrics.verdicts import GateResult, Verdict
from pytest_siren.spec.gates import Gate


def can_settle(gate: Gate, verdict: Verdict, exposed: Exposed) -> bool:
    """Whether runs that are ``exposed`` so far can give ``gate``, one on attacks, ``verdict``.

    Where none read the planted text, none can; but an attacker who won too often has won.
    """
    return not exposed.none or (gate.upper and verdict is Verdict.BROKEN)


def with_exposure(gate: Gate, result: GateResult, exposed: Exposed) -> GateResult:
    """Return ``result`` of a gate on attacks with a word about runs that read no planted text.

    Where none did, it cannot hold.
    """
    if result.value is not None and not can_settle(gate, result.verdict, exposed):
        why = _nobody(exposed, result.pending)
        return replace(result, verdict=Verdict.INCONCLUSIVE, why=why, more_runs=None)
    note = read_note(exposed)
    return replace(result, why=f"{result.why}; {note}") if note else result


def _nobody(exposed: Exposed, pending: int) -> str:
    why = f"{read_note(exposed)}, so they show nothing about the attack"
    runs = f"{pending:,} planned run{' has' if pending == 1 else 's have'}"
    return f"{why}; {runs} not ended" if pending else why
