"""Gates on crossed tasks are decided wrongly as rarely as they say; the long form is nightly."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.gate_errors import DESIGNS, Design, increase, plain, stopped

from pytest_siren.metrics.gates.result import Verdict

QUICK = [
    Design("16 x 9", ((16, 9),), 0.3),
    Design("20 x 5, few work", ((20, 5),), 0.3, runs=5, few_work=True),
    Design("two suites", ((20, 6), (12, 9)), 0.1),
]
ALLOWED = 0.05


@pytest.mark.parametrize("design", QUICK, ids=lambda one: one.name)
def test_few_gates_at_their_bound_are_decided(design: Design) -> None:
    for simulated in (plain, increase):
        found = simulated(np.random.default_rng(1), design, 100)
        for verdict in (Verdict.HELD, Verdict.BROKEN):
            assert found[verdict] <= ALLOWED * 100


def test_few_gates_at_their_bound_are_decided_by_looks_at_batches() -> None:
    found = stopped(np.random.default_rng(2), QUICK[0], 40)
    assert found[Verdict.HELD] + found[Verdict.BROKEN] <= ALLOWED * 40


@pytest.mark.nightly
@pytest.mark.parametrize("design", DESIGNS, ids=lambda one: f"{one.name} {one.rate:g}")
def test_few_gates_of_all_designs_are_decided(design: Design) -> None:
    for simulated, times in ((plain, 400), (increase, 400), (stopped, 60)):
        found = simulated(np.random.default_rng(3), design, times)
        for verdict in (Verdict.HELD, Verdict.BROKEN):
            assert found[verdict] <= ALLOWED * times + 2 * (times * 0.05 * 0.95) ** 0.5
