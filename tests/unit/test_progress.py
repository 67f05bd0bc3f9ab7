"""What progress counts, with clocks that tests move."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_siren.metrics.rates.summary import rows
from pytest_siren.payloads import RunReport
from pytest_siren.session.reporting.progress.plugin import Figures, Progress, Rate
from pytest_siren.sharing.state import Gauge
from tests.unit.test_metrics_summary import error, report


@dataclass
class Gauges:
    """A board without processes."""

    values: dict[Gauge, float] = field(default_factory=dict)

    def total(self, gauge: Gauge) -> float:
        return self.values.get(gauge, 0.0)

    earliest = total


@dataclass
class Clock:
    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


def progress(total: int = 10, **gauges: float) -> tuple[Progress, Clock]:
    clock = Clock()
    board = Gauges({Gauge[name.upper()]: value for name, value in gauges.items()})
    return Progress(total, board, clock, clock), clock


def after(*reports: RunReport, total: int = 10) -> Figures:
    counting, _ = progress(total)
    for each in reports:
        counting.finished(each)
    return counting.figures()


def test_nothing_is_known_before_the_first_run_has_ended() -> None:
    assert after() == Figures(done=0, total=10)
    assert after().eta is None


def test_the_rate_is_that_of_the_last_half_minute() -> None:
    counting, clock = progress(100_000)
    for second in range(120):
        clock.now += 1
        for run in range(2 if second < 60 else 20):
            counting.finished(report(f"t{second}-{run}", finished_at=clock.now))
    figures = counting.figures()
    assert figures.rate == pytest.approx(20, rel=0.1)
    assert figures.eta == pytest.approx((100_000 - 60 * 22) / 20, rel=0.1)


def test_slow_runs_have_a_rate_too() -> None:
    counting, clock = progress(100)
    for number in range(30):
        clock.now += 45
        counting.finished(report(f"t{number}", finished_at=clock.now))
    assert counting.figures().rate == pytest.approx(1 / 45, rel=0.15)


def test_the_rate_falls_while_nothing_ends() -> None:
    rate = Rate(0.0)
    for _ in range(600):
        rate.add(10.0)
    assert rate.per_second(10.0) == pytest.approx(60)
    assert rate.per_second(610.0) == pytest.approx(1, rel=0.05)


def test_the_first_instant_promises_nothing_absurd() -> None:
    rate = Rate(5.0)
    rate.add(5.0)
    assert rate.per_second(5.0) == 2.0


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 50)), min_size=1, max_size=50))
def test_the_rate_is_positive_and_no_more_than_all_in_half_a_second(
    waits: list[tuple[float, int]],
) -> None:
    rate, now, count = Rate(0.0), 0.0, 0
    for wait, runs in waits:
        now += wait
        for _ in range(runs):
            rate.add(now)
        count += runs
        found = rate.per_second(now)
        assert found is not None
        assert 0 < found <= 2 * count


def test_runs_from_an_older_sessions_records_are_done_but_say_nothing_of_the_speed() -> None:
    figures = after(*(report(f"t{n}", finished_at=0.0) for n in range(5)))
    assert (figures.done, figures.rate) == (5, None)


def test_errors_are_counted_and_are_in_no_rate() -> None:
    figures = after(report("a", attack_score=1.0), error("b"), error("c"))
    assert (figures.done, figures.errors, figures.asr, figures.utility) == (3, 2, 1.0, 1.0)


def test_of_several_attempts_the_last_counts_whatever_their_order() -> None:
    first, second = error("a", attempt=1), report("a", attempt=2, attack_score=1.0)
    for order in ((first, second), (second, first)):
        figures = after(*order)
        assert (figures.done, figures.errors, figures.asr) == (1, 0, 1.0)


def test_partial_success_of_an_attack_is_none() -> None:
    assert after(report(attack_score=0.9)).asr == 0.0


def test_benign_runs_have_utility_only() -> None:
    figures = after(report(attack=None, attack_score=None, benign_score=0.5))
    assert (figures.asr, figures.utility) == (None, 0.5)


def test_unknown_scores_are_in_no_rate() -> None:
    figures = after(report(benign_score=None, benign_unknown="replayed"))
    assert (figures.asr, figures.utility) == (0.0, None)


def test_cancelled_runs_are_done_and_in_nothing_else() -> None:
    figures = after(report(status="cancelled", benign_score=None, attack_score=None))
    assert figures == Figures(done=1, total=10, rate=2.0)


def test_more_runs_than_expected_move_the_total() -> None:
    assert after(report("a"), report("b"), total=1).total == 2


_SCORES = st.sampled_from([0.0, 0.25, 1.0])
_REPORTS = st.lists(
    st.builds(
        lambda task, index, attempt, failed, benign, attack: (error if failed else report)(
            f"t{task}",
            index,
            attempt=attempt,
            **({} if failed else {"benign_score": benign, "attack_score": attack}),
        ),
        st.integers(0, 3),
        st.integers(0, 2),
        st.integers(1, 3),
        st.booleans(),
        _SCORES,
        _SCORES,
    ),
    min_size=1,
    max_size=40,
)


@given(_REPORTS)
def test_the_figures_are_those_of_the_summary(reports: list[RunReport]) -> None:
    figures = after(*reports, total=100)
    [row] = rows(reports, (1,))
    utility = row.benign_pass[1]
    assert figures.asr == (None if row.asr is None else pytest.approx(row.asr.value))
    assert figures.utility == (None if utility is None else pytest.approx(utility.value))
    assert figures.errors == row.errors
    assert figures.done == row.runs + row.errors


def test_the_boards_gauges_are_shown() -> None:
    counting, clock = progress(
        running=64, held=12, resumes_at=1_003.0, input_tokens=1000, output_tokens=200, cost=0.5
    )
    figures = counting.figures()
    assert (figures.running, figures.held, figures.resumes_in) == (64, 12, 3.0)
    assert (figures.tokens, figures.cost, figures.unpriced) == (1200, 0.5, False)
    clock.now += 10
    assert counting.figures().resumes_in == 0.0


def test_without_anybody_held_no_time_is_named() -> None:
    counting, _ = progress(running=3, resumes_at=1_003.0, unpriced=1, retries=2)
    figures = counting.figures()
    assert (figures.resumes_in, figures.unpriced, figures.retries) == (None, True, 2)
