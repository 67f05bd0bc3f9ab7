from __future__ import annotations

from itertools import pairwise

import pytest

from pytest_siren.models.ratelimit.caps import RateCap
from pytest_siren.models.ratelimit.error_class import NO_ADVICE, Advice
from pytest_siren.models.ratelimit.limiter import AdaptiveLimit
from pytest_siren.models.ratelimit.retrying_model import after_refusal, after_transient
from pytest_siren.models.ratelimit.shared_cells import Cell, LocalCells
from tests.unit.limits_server import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def limit_of(clock: FakeClock, ceiling: int = 64) -> AdaptiveLimit:
    return AdaptiveLimit(LocalCells(), ceiling, clock)


def answers(limit: AdaptiveLimit, clock: FakeClock, seconds: float, latency: float = 0.3) -> None:
    """Let successes come in for ``seconds``, one each tenth of a second."""
    for _ in range(round(seconds * 10)):
        clock.now += 0.1
        limit.succeeded(latency, NO_ADVICE)


def test_it_starts_at_the_ceiling_and_does_not_bind(clock: FakeClock) -> None:
    limit = limit_of(clock)
    assert (limit.value, limit.binding, limit.paused) == (64, False, 0.0)


def test_refusals_of_one_burst_lower_it_once(clock: FakeClock) -> None:
    limit = limit_of(clock)
    for _ in range(9):
        limit.refused(NO_ADVICE)
    assert limit.value == int(64 * 0.7)
    clock.now += 0.9
    limit.refused(NO_ADVICE)
    assert limit.value == int(64 * 0.7)
    clock.now += 0.2
    limit.refused(NO_ADVICE)
    assert limit.value == int(64 * 0.7 * 0.7)


def test_with_slow_answers_it_is_lowered_once_in_the_time_of_an_answer(clock: FakeClock) -> None:
    limit = limit_of(clock)
    limit.succeeded(20.0, NO_ADVICE)
    limit.refused(NO_ADVICE)
    clock.now += 19.0
    limit.refused(NO_ADVICE)
    assert limit.value == int(64 * 0.7)
    clock.now += 2.0
    limit.refused(NO_ADVICE)
    assert limit.value == int(64 * 0.7 * 0.7)


def lowered(clock: FakeClock, ceiling: int = 64) -> AdaptiveLimit:
    limit = limit_of(clock, ceiling)
    for _ in range(40):
        clock.now += 1.1
        limit.succeeded(0.3, NO_ADVICE)
        for _ in range(3):
            limit.refused(NO_ADVICE)
    return limit


def test_it_never_falls_below_one(clock: FakeClock) -> None:
    assert lowered(clock).value == 1


def test_after_a_disturbance_it_rises_evenly_at_first_and_then_ever_faster(
    clock: FakeClock,
) -> None:
    limit = lowered(clock)
    clock.now += 5.0
    limit.succeeded(0.3, NO_ADVICE)
    values = [limit.value]
    while limit.binding:
        answers(limit, clock, 0.5)
        values.append(limit.value)
    steps = [later - earlier for earlier, later in pairwise(values)]
    # Five seconds from 1 to 64 are 6.4 in half a second; then up to four times as much.
    assert values[-1] == 64
    assert 6 <= steps[0] <= 7, values
    assert steps[0] < steps[1] < steps[2] <= 4 * 6.4, values


@pytest.mark.parametrize("latency", [0.1, 0.5, 1.0, 3.0, 20.0])
def test_it_is_back_from_chance_refusals_in_four_answers_time(
    latency: float, clock: FakeClock
) -> None:
    """A third is refused at random for a while; then the limit is a third of the ceiling or so."""
    limit = limit_of(clock)
    limit.succeeded(latency, NO_ADVICE)
    for number in range(3_000):
        clock.now += latency / 30
        if number % 10 < 3:
            limit.refused(Advice(retry_after=1.0))
        else:
            limit.succeeded(latency, NO_ADVICE)
    lowest = limit.value
    assert lowest < 58
    ended = clock.now
    while limit.value < 58:
        clock.now += latency / 30
        limit.succeeded(latency, NO_ADVICE)
    assert clock.now - ended <= 4 * max(latency, 0.5), lowest


def test_a_refusal_makes_it_rise_evenly_again(clock: FakeClock) -> None:
    limit = lowered(clock)
    answers(limit, clock, 1.5)
    limit.refused(NO_ADVICE)
    before = limit.value
    answers(limit, clock, 0.5)
    assert 5 <= limit.value - before <= 7


def test_slow_answers_raise_it_by_a_tenth_of_the_ceiling_each_time(clock: FakeClock) -> None:
    limit = limit_of(clock)
    limit.succeeded(3.0, NO_ADVICE)
    for _ in range(4):
        limit.refused(NO_ADVICE)
        clock.now += 3.0
    lowest = limit.value
    values = []
    for _ in range(5):
        limit.succeeded(3.0, NO_ADVICE)
        values.append(limit.value)
        clock.now += 3.0
    assert lowest == 15
    assert values == [21, 27, 40, 64, 64]


def test_silence_is_no_success(clock: FakeClock) -> None:
    limit = lowered(clock)
    clock.now += 3_600.0
    limit.succeeded(0.3, NO_ADVICE)
    assert limit.value <= 1 + 64 / 5


def test_it_does_not_rise_while_half_of_all_is_refused(clock: FakeClock) -> None:
    limit = limit_of(clock)
    for _ in range(200):
        clock.now += 0.05
        limit.succeeded(0.3, NO_ADVICE)
        limit.refused(NO_ADVICE)
        limit.refused(NO_ADVICE)
    assert limit.value <= 3


def test_chance_refusals_slow_down_and_freeze_nobody(clock: FakeClock) -> None:
    limit = limit_of(clock)
    for number in range(3_000):
        clock.now += 0.01
        if number % 10 < 3:
            limit.refused(Advice(retry_after=1.0))
        else:
            limit.succeeded(0.3, NO_ADVICE)
        assert limit.paused == 0.0
    assert limit.value > 16


def refuse_all(limit: AdaptiveLimit, clock: FakeClock, advice: Advice, times: int) -> None:
    for _ in range(times):
        clock.now += 0.05
        limit.refused(advice)


def test_when_nobody_gets_through_everybody_pauses_and_one_finds_out(clock: FakeClock) -> None:
    limit = limit_of(clock)
    refuse_all(limit, clock, Advice(retry_after=7.0), 60)
    assert limit.value == 1
    assert limit.paused == pytest.approx(7.0, abs=2.1)
    clock.now += 7.0
    assert limit.paused == 0.0
    answers(limit, clock, 6.0)
    assert limit.value == 64


def test_pauses_without_advice_get_longer(clock: FakeClock) -> None:
    limit = limit_of(clock)
    pauses = []
    while not limit.paused:
        refuse_all(limit, clock, NO_ADVICE, 1)
    for _ in range(8):
        pauses.append(round(limit.paused))
        clock.now += limit.paused + 0.01
        limit.refused(NO_ADVICE)
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


def test_one_burst_is_not_everybody(clock: FakeClock) -> None:
    """A provider that allows 20 at a time refuses the other 44 before it has answered one."""
    limit = limit_of(clock)
    for _ in range(44):
        limit.refused(Advice(retry_after=1.0))
    assert limit.paused == 0.0


def test_everybody_pauses_when_nothing_remains(clock: FakeClock) -> None:
    limit = limit_of(clock)
    limit.refused(Advice(exhausted=True, resets_in=12.0))
    assert limit.paused == pytest.approx(12.0)
    limit = limit_of(clock)
    limit.succeeded(0.3, Advice(exhausted=True, resets_in=3.0))
    assert limit.paused == pytest.approx(3.0)
    limit.succeeded(0.3, Advice(exhausted=True, resets_in=80_000.0))
    assert limit.paused == pytest.approx(60.0)


def test_processes_share_one_limit(clock: FakeClock) -> None:
    cells = LocalCells()
    one, other = (AdaptiveLimit(cells, 64, clock) for _ in range(2))
    one.refused(NO_ADVICE)
    assert other.value == int(64 * 0.7)
    other.refused(NO_ADVICE)
    assert one.value == int(64 * 0.7)


@pytest.mark.parametrize("per_minute", [0.5, 1, 7, 60, 90, 600, 6_000])
def test_no_minute_holds_more_than_the_cap(per_minute: float, clock: FakeClock) -> None:
    cap = RateCap(LocalCells(), Cell.REQUESTS_AT, per_minute)
    sent: list[float] = []
    started = clock.now
    while clock.now < started + 300:
        wait = cap.wait(clock.now)
        if wait:
            clock.now += wait + 1e-9
        else:
            cap.take(clock.now, 1.0)
            sent.append(clock.now)
    first = 0
    for last, moment in enumerate(sent):
        while sent[first] <= moment - 60.0:
            first += 1
        assert last - first + 1 <= max(1, per_minute)
    assert len(sent) >= 0.95 * per_minute * 5 - 1


def test_a_cap_on_tokens_delays_what_comes_after_a_large_request(clock: FakeClock) -> None:
    cap = RateCap(LocalCells(), Cell.TOKENS_AT, 60_000)
    cap.take(clock.now, 10_000)
    assert cap.wait(clock.now) == pytest.approx(9.0, abs=0.3)
    cap.correct(-8_000)
    assert cap.wait(clock.now) == pytest.approx(1.0, abs=0.3)


def test_waits_grow_and_keep_to_what_the_provider_says() -> None:
    assert [after_transient(n, lambda: 1.0) for n in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert after_transient(5, lambda: 0.0) == 0.0
    assert [after_refusal(n, None, lambda: 1.0) for n in range(3)] == [1, 2, 4]
    assert after_refusal(50, None, lambda: 1.0) == 60
    assert after_refusal(0, 20.0, lambda: 0.0) == 20.0
    assert 20.0 < after_refusal(0, 20.0, lambda: 1.0) <= 25.0
