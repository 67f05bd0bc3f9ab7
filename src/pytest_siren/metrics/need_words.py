"""What would settle an inconclusive gate, in words."""

from __future__ import annotations

from pytest_siren.metrics.gate_findings import Finding
from pytest_siren.metrics.sample_size import MOST_RUNS, MOST_TASKS, Need
from pytest_siren.spec.gates import CHANGES, WORST, Gate


def needed(need: Need, gate: Gate, found: Finding) -> str:
    """Say how many more runs, or tasks, would decide, and how to have them."""
    if need.runs is None:
        return _none(gate, found)
    rate = "at this change" if need.paired else _rate(gate)
    if need.each is not None:
        runs = "more pairs of runs" if need.paired else "more runs"
        return f"{_about(need.runs, runs)} would decide it {rate} ({_how(need)})"
    tasks = f"{_about(need.tasks or 1, 'more tasks')} would decide it {rate}"
    if need.paired:
        tasks = f"{tasks}, on both sides"
    if need.repeated is None:
        return tasks
    if need.repeated:
        return f"{tasks}; more runs of the same tasks would not"
    unknown = "one run of each does not show whether more runs of the same tasks would"
    return f"{tasks}; {unknown} (try --runs 3)"


def _how(need: Need) -> str:
    how = f"--runs {need.each:,}"
    if need.paired:
        how = f"{how} on both sides"
    return how if need.tasks is None else f"{how}, or {_about(need.tasks, 'more tasks')}"


def _rate(gate: Gate) -> str:
    return "at these rates" if gate.measure in WORST else "at this rate"


def _none(gate: Gate, found: Finding) -> str:
    if abs(found.value - gate.bound) < 1e-9:
        return "what was measured is the bound itself, so no number of runs is likely to decide it"
    if gate.measure in CHANGES and found.low <= -1.0 and found.high >= 1.0:
        return "a single task, or cluster of tasks, says nothing about others: add more"
    return (
        f"it is so close to the bound that neither {MOST_RUNS:,} runs nor {MOST_TASKS:,} tasks "
        "would decide it"
    )


def _about(number: int, nouns: str) -> str:
    """Return ``number`` with two significant digits, and ``nouns``, in the singular for 1."""
    if number == 1:
        one = {
            "more pairs of runs": "one more pair of runs",
            "more runs": "one more run",
            "more tasks": "one more task",
        }
        return one[nouns]
    return f"about {float(f'{number:.2g}'):,.0f} {nouns}"
