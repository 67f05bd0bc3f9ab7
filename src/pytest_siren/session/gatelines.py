"""What came of a gate, in lines for a terminal."""

from __future__ import annotations

from pytest_siren.metrics.verdicts import GateResult
from pytest_siren.session.text import printable

_LONGEST = 400


def figures(result: GateResult) -> str:
    """Return the expression, the estimate with its interval, and the counts."""
    parts = [printable(result.gate, _LONGEST)]
    if result.value is not None:
        parts.append(estimate(result))
    parts.append(_counts(result))
    source = printable(result.source, _LONGEST)
    return "  ".join(parts) + (f"  ({source})" if source != "--gate" else "")


def why(result: GateResult) -> str:
    """Return the sentence that says what decided."""
    return printable(result.why, _LONGEST)


def estimate(result: GateResult) -> str:
    """Return the estimate with its interval."""
    value, low, high = result.value, result.low, result.high
    assert value is not None
    if result.gate.lstrip().startswith("cost"):
        return f"${value:,.4f}"
    if result.gate.lstrip().startswith("tokens"):
        return f"{value:,.0f} tokens"
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _counts(result: GateResult) -> str:
    counts = [_counted(result.runs, "run")]
    if result.units:
        counts[0] += f" of {_counted(result.units, 'task')}"
    if result.errors:
        counts.append(_counted(result.errors, "error"))
    if result.pending:
        counts.append(f"{result.pending:,} pending")
    return ", ".join(counts)


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
