"""Selective risk (E78): coverage and risk for each threshold, and the area under the curve."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import numpy.typing as npt
import pytest

from pytest_siren.metrics.compare.paired import compare
from pytest_siren.metrics.compare.selective import (
    Point,
    aurc,
    leave_one_out_confidences,
    risk_coverage,
    selective_risk,
)
from pytest_siren.reports.comparison_pages import trusted
from tests.unit.gates_sample import run, runs

Floats = npt.NDArray[np.float64]


def published_sum(
    confidences: Floats, losses: Floats, random: np.random.Generator, times: int
) -> float:
    """Return the mean risk of the k most trusted, over all k, with every run ``times`` there."""
    order = random.permutation(len(losses) * times)
    many, lost = np.repeat(confidences, times)[order], np.repeat(losses, times)[order]
    lost = lost[np.argsort(-many, kind="stable")]
    return float(np.mean(np.cumsum(lost) / np.arange(1, len(lost) + 1)))


def test_a_curve_by_hand() -> None:
    """Trusted at 0.9: one of one right; at 0.8: one of three wrong; at 0.1: two of four."""
    confidences = np.array([0.8, 0.1, 0.9, 0.8])
    losses = np.array([1.0, 1.0, 0.0, 0.0])
    assert risk_coverage(confidences, losses) == (
        Point(0.9, 0.25, 0.0),
        Point(0.8, 0.75, pytest.approx(1 / 3)),
        Point(0.1, 1.0, 0.5),
    )
    # The integral of 0, (c - 1/4) / 2 / c and (1/4 + c - 3/4) / c.
    area = 0.25 - np.log(3) / 8 + 0.25 - np.log(4 / 3) / 2
    assert aurc(confidences, losses) == pytest.approx(area)


@pytest.mark.parametrize("levels", [2, 4, 30])
def test_the_area_is_the_published_sum_of_many_runs(levels: int) -> None:
    random = np.random.default_rng(levels)
    confidences = random.integers(0, levels, 25) / levels
    losses = (random.random(25) > confidences).astype(np.float64)
    summed = np.mean([published_sum(confidences, losses, random, 2_000) for _ in range(20)])
    assert aurc(confidences, losses) == pytest.approx(summed, abs=2e-3)


def test_without_any_difference_in_confidence_the_area_is_the_risk() -> None:
    losses = np.array([1.0, 0.0, 0.0, 0.0, 1.0])
    assert aurc(np.full(5, 0.7), losses) == pytest.approx(0.4)
    assert risk_coverage(np.full(5, 0.7), losses) == (Point(0.7, 1.0, pytest.approx(0.4)),)


def test_weights_stand_for_runs_that_are_there_several_times() -> None:
    confidences, losses = np.array([0.9, 0.5, 0.2]), np.array([0.0, 1.0, 0.5])
    times = np.array([3, 1, 2])
    repeated = aurc(np.repeat(confidences, times), np.repeat(losses, times))
    assert aurc(confidences, losses, times / 7.0) == pytest.approx(repeated)


def test_the_best_confidence_has_no_excess_and_the_worst_the_largest_area() -> None:
    """With the share r lost, the least area is r + (1 - r) log(1 - r) (Geifman et al. 2019)."""
    losses = np.array([1.0] * 3 + [0.0] * 7)
    assert aurc(-losses, losses) == pytest.approx(0.3 + 0.7 * np.log(0.7))
    random = np.random.default_rng(1)
    areas = [aurc(random.random(10), losses) for _ in range(200)]
    assert aurc(-losses, losses) <= min(areas)
    assert max(areas) <= aurc(losses, losses)


def test_a_run_says_nothing_of_the_confidence_in_itself() -> None:
    found = leave_one_out_confidences(
        np.array([1.0, 0.0, 0.0, 1.0, 0.5, 1.0]), np.array([7, 7, 7, 2, 2, 5])
    )
    assert found.confidences.tolist() == [1.0, 0.5, 0.5, 0.5, 0.0]
    assert found.losses.tolist() == [1.0, 0.0, 0.0, 1.0, 0.5]
    assert found.weights == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1 / 2, 1 / 2])
    assert found.tasks == 2


def test_agreement_of_runs_that_are_independent_is_worth_nothing() -> None:
    """It would be, if a run counted for its own confidence."""
    random = np.random.default_rng(4)
    losses = (random.random(40_000) < 0.3).astype(np.float64)
    units = np.repeat(np.arange(8_000), 5)
    found = selective_risk(losses, units)
    assert found is not None
    assert found.aurc == pytest.approx(0.3, abs=0.01)
    assert [point.risk for point in found.points[:3]] == pytest.approx([0.3] * 3, abs=0.02)
    alike = selective_risk(np.repeat(losses[:8_000], 5), units)
    assert alike is not None
    assert alike.excess == 0.0
    assert alike.points[0].risk == 0.0


def test_tasks_of_a_single_run_have_no_curve() -> None:
    assert selective_risk(np.array([1.0, 0.0]), np.array([0, 1])) is None
    with pytest.raises(ValueError, match="at least one run"):
        aurc(np.array([]), np.array([]))


def test_a_comparison_tells_the_selective_risk_of_both_sides() -> None:
    """Four tasks of three runs: A resists all but one attack, B is hijacked in one task always."""

    def side(won: dict[str, list[float]]) -> list[dict[str, object]]:
        return [
            run(f"u{n}:i", k, attack_score=won.get(f"u{n}", [0.0] * 3)[k])
            for n in range(4)
            for k in range(3)
        ]

    left, right = runs(*side({"u0": [1.0, 0.0, 0.0]})), runs(*side({"u0": [1.0] * 3}))
    found = {one.measure: one for one in compare(left, right).measures}["asr"]
    assert found.selective is not None
    one, other = found.selective
    assert one.points[0] == Point(1.0, pytest.approx(10 / 12), pytest.approx(0.1))
    assert (other.points[0].risk, other.excess) == (0.0, 0.0)
    assert other.points[0].coverage == pytest.approx(0.75)
    assert list(trusted(found)) == [
        "selective risk, 4 tasks: A 0.100 at coverage 0.833, B 0.000 at coverage 0.750 where all "
        f"other runs of a task went well; AURC A {one.aurc:.3f}, B {other.aurc:.3f}"
    ]
    single = compare(left[left["run_index"] == 0], right[right["run_index"] == 0])
    assert [one.selective for one in single.measures] == [None, None]
    assert [list(trusted(one)) for one in single.measures] == [[], []]
    points = json.loads(json.dumps(asdict(found)))["selective"][0]["points"]
    assert [sorted(point) for point in points] == [["coverage", "risk", "threshold"]] * 2
