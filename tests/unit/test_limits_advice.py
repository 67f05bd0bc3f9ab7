from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_siren.models.ratelimit.error_class import Advice, advice_of, reset_in

NOW = 1_767_322_800.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("20ms", 0.02),
        ("1h2m3.5s", 3723.5),
        ("1d", 86_400.0),
        ("59.7s", 59.7),
        ("0", 0.0),
        ("17", 17.0),
        ("1.5", 1.5),
        (str(NOW + 30), 30.0),
        (str(int((NOW + 30) * 1000)), 30.0),
        ("2026-01-02T03:00:30Z", 30.0),
        ("2026-01-02T04:00:30+01:00", 30.0),
        ("Fri, 02 Jan 2026 03:00:30 GMT", 30.0),
        ("2026-01-02T02:00:00Z", 0.0),
    ],
)
def test_a_reset_in_any_format(value: str, seconds: float) -> None:
    assert reset_in(value, NOW) == pytest.approx(seconds)


@pytest.mark.parametrize("value", ["", "soon", "1x", "s", "1s!", "nan", "inf", "1_000", "१s", "-"])
def test_what_is_no_time_is_none(value: str) -> None:
    assert reset_in(value, NOW) is None


@given(st.text())
def test_any_header_can_be_read(value: str) -> None:
    names = ("retry-after", "retry-after-ms", "x-ratelimit-reset-requests")
    headers = dict.fromkeys(names, value) | {"x-ratelimit-remaining-requests": "0"}
    advice = advice_of(headers, NOW)
    for seconds in (advice.retry_after, advice.resets_in):
        assert seconds is None or 0.0 <= seconds <= 366 * 86_400


@given(st.integers(0, 86_400_000))
def test_retry_after_in_milliseconds_goes_first(milliseconds: int) -> None:
    headers = {"retry-after-ms": str(milliseconds), "retry-after": "77"}
    assert advice_of(headers, NOW).retry_after == pytest.approx(milliseconds / 1_000)


@given(st.integers(0, 100_000))
def test_retry_after_as_a_date(seconds: int) -> None:
    moment = datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=seconds)
    headers = {"retry-after": format_datetime(moment, usegmt=True)}
    assert advice_of(headers, NOW).retry_after == pytest.approx(seconds)


def test_nothing_said_is_nothing_known() -> None:
    assert advice_of({"content-type": "application/json"}, NOW) == Advice()
    assert Advice().wait is None


@pytest.mark.parametrize(
    ("remaining", "reset", "value"),
    [
        ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", "12s"),
        ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens", "12000ms"),
        ("x-ratelimit-remaining", "x-ratelimit-reset", str(NOW + 12)),
        (
            "anthropic-ratelimit-requests-remaining",
            "anthropic-ratelimit-requests-reset",
            "2026-01-02T03:00:12Z",
        ),
        (
            "anthropic-ratelimit-input-tokens-remaining",
            "anthropic-ratelimit-input-tokens-reset",
            "2026-01-02T03:00:12Z",
        ),
    ],
)
def test_nothing_remains_until_the_reset(remaining: str, reset: str, value: str) -> None:
    advice = advice_of({remaining: "0", reset: value}, NOW)
    assert advice == Advice(None, exhausted=True, resets_in=pytest.approx(12.0))
    assert advice_of({remaining: "1", reset: value}, NOW) == Advice()


def test_retry_after_counts_more_than_a_reset_and_the_latest_reset_counts() -> None:
    headers = {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "3s",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "9s",
    }
    assert advice_of(headers, NOW).wait == 9.0
    assert advice_of({**headers, "retry-after": "2"}, NOW).wait == 2.0
