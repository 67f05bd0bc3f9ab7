"""What came of a gate, in lines for a terminal."""

from __future__ import annotations

from pytest_siren.metrics.verdicts import GateResult
from pytest_siren.session.text import printable

_LONGEST = 400


def figures(result: GateResult) -> str:
    """Return the expression, the estimate with its interval, and the counts."""
    parts = [printable(result.gate, _LONGEST)]
    if result.value is not None:
        parts.append(_estimate(result))
    parts.append(_counts(result))
    source = printable(result.source, _LONGEST)
    return "  ".join(parts) + (f"  ({source})" if source != "--gate" else "")


def why(result: GateResult) -> str:
    """Return the sentence that says what decided."""
    more = f"; {result.more_runs:,} more runs would decide it" if result.more_runs else ""
    return printable(result.why + more, _LONGEST)


def _estimate(result: GateResult) -> str:
    value, low, high = result.value, result.low, result.high
    assert value is not None
    if low == high == value:
        return f"{value:,.4f}" if value % 1 else f"{value:,.0f}"
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
