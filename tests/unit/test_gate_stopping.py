"""Gates that are settled while their runs come in."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

import numpy as np
import pytest

from pytest_siren.metrics.gates.result import Verdict
from pytest_siren.metrics.sequential import (
    CrossedTasks,
    Outcome,
    SequentialGate,
    Step,
    advance,
    can_stop_early,
    looks_after_batches,
)
from pytest_siren.spec.gates import parse_gate

WON = Outcome("scored", 1.0, 1.0, exposed=True)
RESISTED = Outcome("scored", 1.0, 0.0, exposed=True)
ERROR = Outcome("error", None, None)


def settling(text: str, tasks: int, rounds: int = 1) -> SequentialGate:
    steps = [Step((task, index), task, index) for index in range(rounds) for task in range(tasks)]
    return SequentialGate(parse_gate(text, ""), steps, rounds)


def known(outcomes: Iterable[Outcome], round_index: int = 0) -> dict[Hashable, Outcome]:
    return {(task, round_index): one for task, one in enumerate(outcomes)}


def test_a_gate_far_from_its_bound_needs_a_part_of_its_runs() -> None:
    gate = settling("asr <= 0.10", 600)
    assert advance([gate], known([WON, RESISTED] * 300))
    assert gate.verdict is Verdict.BROKEN
    assert gate.decided_after is not None
    assert gate.decided_after < 60
    held = settling("asr <= 0.5", 600)
    assert advance([held], known([RESISTED] * 600))
    assert (held.verdict, held.decided_after) == (Verdict.HELD, held.used)


def test_what_ended_out_of_turn_does_not_count_yet() -> None:
    gate = settling("asr <= 0.10", 600)
    outcomes = known([WON] * 600)
    first = outcomes.pop((0, 0))
    assert not advance([gate], outcomes)
    assert gate.used == 0
    outcomes[0, 0] = Outcome("cancelled", None, None)
    assert not advance([gate], outcomes)
    outcomes[0, 0] = first
    assert advance([gate], outcomes)


def test_a_verdict_does_not_depend_on_how_runs_come_in() -> None:
    outcomes = known([WON, RESISTED, RESISTED] * 200)
    at_once, one_by_one = settling("asr <= 0.10", 600), settling("asr <= 0.10", 600)
    advance([at_once], outcomes)
    so_far: dict[Hashable, Outcome] = {}
    for run in sorted(outcomes, key=lambda run: -run[0] % 7):  # type: ignore[index]
        so_far[run] = outcomes[run]
        advance([one_by_one], so_far)
    assert at_once.decided_after == one_by_one.decided_after
    assert (at_once.low, at_once.high) == (one_by_one.low, one_by_one.high)


def test_errors_never_help_a_gate_to_hold() -> None:
    gate = settling("asr <= 0.5", 600)
    assert not advance([gate], known([RESISTED, ERROR] * 300))
    assert gate.verdict is Verdict.INCONCLUSIVE
    assert gate.high < 0.5
    few = settling("asr <= 0.5", 600)
    assert advance([few], known(([ERROR] + [RESISTED] * 9) * 60))
    alone = settling("asr <= 0.5", 600)
    advance([alone], known([RESISTED] * 600))
    assert (few.decided_after or 0) > (alone.decided_after or 0)
    nothing = settling("asr <= 0.5", 50)
    assert not advance([nothing], known([ERROR] * 50))
    assert (nothing.low, nothing.high) == (0.0, 1.0)


def test_errors_never_help_a_gate_to_be_broken() -> None:
    """Six of ten runs crash, all of them resisted, and the others would break it."""
    gate = settling("asr <= 0.3", 600)
    assert not advance([gate], known(([WON, RESISTED] + [ERROR] * 3) * 120))
    assert gate.low > 0.3
    few = settling("asr <= 0.3", 600)
    assert advance([few], known(([ERROR] + [WON] * 9) * 60))
    assert few.verdict is Verdict.BROKEN


def test_later_rounds_add_what_they_tell() -> None:
    gate = settling("utility >= 0.5", 40, rounds=5)
    outcomes: dict[Hashable, Outcome] = {}
    for index in range(5):
        outcomes |= known(
            [Outcome("scored", float((task + index) % 5 > 0), None) for task in range(40)], index
        )
    advance([gate], outcomes)
    assert gate.decided_after is not None
    assert gate.verdict is Verdict.HELD


def test_without_a_run_nothing_is_settled() -> None:
    gate = settling("asr <= 1", 0)
    assert not advance([gate], {})
    assert gate.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("text", "can"),
    [
        ("asr <= 0", True),
        ("utility_under_attack[suite=s] > 0", True),
        ("error_rate <= 0", True),
        ("asr[vector=v] <= 0", False),
        ("pass@5 >= 1", False),
        ("cost <= 1", False),
        ("max_task_asr <= 1", False),
        ("asr_increase <= 0", False),
    ],
)
def test_which_gates_can_be_settled_early(text: str, can: bool) -> None:
    assert can_stop_early(parse_gate(text, "")) is can


def test_rates_of_how_answers_ended_are_settled_too() -> None:
    cut, whole = Outcome("scored", None, None, "length"), Outcome("scored", 1.0, 0.0, "complete")
    gate = settling("incomplete_rate <= 0.10", 600)
    assert advance([gate], known([cut, whole] * 300))
    assert gate.verdict is Verdict.BROKEN
    held = settling("incomplete_rate <= 0.5", 600)
    assert advance([held], known([whole] * 600))
    assert held.verdict is Verdict.HELD
    refused = settling("refusal_rate <= 0.5", 600)
    assert advance([refused], known([Outcome("scored", 1.0, 0.0, "refused")] * 600))
    assert refused.verdict is Verdict.BROKEN
    old = settling("incomplete_rate <= 0.5", 600)
    assert not advance([old], known([WON] * 600))


def test_a_gate_does_not_hold_early_by_answers_that_were_cut_off() -> None:
    gate = settling("asr <= 0.5", 600)
    assert not advance([gate], known([Outcome("scored", None, None, "length")] * 600))
    assert gate.verdict is Verdict.INCONCLUSIVE


def crossed(text: str, benign: int, malicious: int, rounds: int = 1) -> SequentialGate:
    """A gate on a whole table of couples, in batches that share no task."""
    size = max(benign, malicious)
    couples = [(i, j) for i in range(benign) for j in range(malicious)]
    couples.sort(key=lambda one: (one[0] - one[1]) % size)
    steps = [
        Step((couple, index), couple, index, (couple[0] - couple[1]) % size)
        for index in range(rounds)
        for couple in couples
    ]
    tasks = CrossedTasks(
        {one: one[0] for one in couples},
        {one: one[1] for one in couples},
        dict.fromkeys(couples, 0),
        [benign * malicious],
    )
    return SequentialGate(parse_gate(text, ""), steps, rounds, crossed=tasks)


def table(gate: SequentialGate, won: Callable[[int, int, int], bool]) -> dict[Hashable, Outcome]:
    outcomes: dict[Hashable, Outcome] = {}
    for step in gate.steps:
        (i, j), index = step.run  # type: ignore[misc]
        outcomes[step.run] = WON if won(i, j, index) else RESISTED
    return outcomes


def test_crossed_couples_are_looked_at_after_batches_that_share_no_task() -> None:
    gate = crossed("asr <= 0.05", 16, 9)
    assert looks_after_batches(gate.steps) == {9, 18, 36, 72, 144}
    assert looks_after_batches(crossed("asr <= 0.05", 4, 2, 3).steps) == {2, 4, 8, 16, 24}
    assert advance([gate], table(gate, lambda i, j, index: (i + j) % 4 > 0))
    assert (gate.verdict, gate.decided_after) == (Verdict.BROKEN, 9)
    small = crossed("asr <= 0.05", 4, 2)
    assert not advance([small], table(small, lambda i, j, index: False))
    assert small.exhausted


def test_one_malicious_task_that_works_decides_nothing_about_others() -> None:
    """To a sequence that takes couples for independent, 16 of 144 are plenty."""
    gate = crossed("asr <= 0.02", 16, 9)
    assert not advance([gate], table(gate, lambda i, j, index: j == 0))
    alone = SequentialGate(gate.gate, gate.steps, 1)
    assert advance([alone], table(gate, lambda i, j, index: j == 0))


@pytest.mark.parametrize("by", ["benign", "malicious"])
def test_crossed_gates_at_their_bound_are_seldom_decided_early(by: str) -> None:
    random = np.random.default_rng(13)
    decided = 0
    for _ in range(80):
        works = random.random(16) < 0.3
        gate = crossed("asr <= 0.3", 16, 9)
        outcomes = table(gate, lambda i, j, index: bool(works[i if by == "benign" else j]))  # noqa: B023
        decided += advance([gate], outcomes)
    assert decided <= 4
