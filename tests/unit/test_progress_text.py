"""What the live line and the plain line say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_siren.session.reporting.progress.plugin import Figures, live_text, plain_line

USUAL = Figures(
    done=412,
    total=949,
    running=64,
    rate=12.3,
    asr=0.21,
    utility=0.64,
    errors=3,
    tokens=1_200_000,
    cost=0.42,
)
FEW_HELD = replace(USUAL, held=12, resumes_in=3.2)
MANY_HELD = replace(USUAL, held=60, resumes_in=130.0, rate=0.4)


def test_eighty_columns_hold_the_usual_figures() -> None:
    line = live_text(USUAL, 80)
    assert line == ("siren 412/949 43%  64 in flight  12.3/s  ETA 44 s  ASR 0.21  util 0.64  err 3")


def test_a_wide_terminal_shows_everything() -> None:
    line = live_text(replace(FEW_HELD, retries=1), 200)
    assert line == (
        "siren 412/949 43%  64 in flight  12 held (rate limit), next in 3 s  12.3/s  ETA 44 s"
        "  ASR 0.21  util 0.64  err 3  1.2M tokens  $0.42  1 retry"
    )


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (20, "siren 412/949 43%"),
        (32, "siren 412/949 43%  64 in flight"),
        (42, "siren 412/949 43%  64 in flight  ETA 44 s"),
        (60, "siren 412/949 43%  64 in flight  ETA 44 s  ASR 0.21  err 3"),
        (70, "siren 412/949 43%  64 in flight  12.3/s  ETA 44 s  ASR 0.21  err 3"),
    ],
)
def test_what_matters_least_is_left_out(width: int, line: str) -> None:
    assert live_text(USUAL, width) == line


def test_when_most_are_held_that_is_said_before_anything_else() -> None:
    assert live_text(MANY_HELD, 80) == (
        "siren 412/949 43%  64 in flight  60 held (rate limit), next in 2 min 10 s  err 3"
    )
    assert live_text(MANY_HELD, 45) == "siren 412/949 43%  64 in flight  60 held"


def test_when_few_are_held_their_number_goes_before_utility() -> None:
    assert live_text(FEW_HELD, 80) == (
        "siren 412/949 43%  64 in flight  12 held  12.3/s  ETA 44 s  ASR 0.21  err 3"
    )


def test_before_the_first_run_has_ended() -> None:
    figures = Figures(done=0, total=949, running=64)
    assert live_text(figures, 80) == "siren 0/949 0%  64 in flight  ETA ?  err 0"
    assert plain_line(figures) == "siren: 0/949 (0 %), 64 in flight, ? runs/s, ETA ?, 0 errors"


def test_at_the_end_nothing_is_to_be_expected() -> None:
    figures = replace(USUAL, done=949, running=0)
    assert "ETA" not in live_text(figures, 200)
    assert "ETA" not in plain_line(figures)
    assert live_text(figures, 80).startswith("siren 949/949 100%  0 in flight")


def test_not_all_done_is_not_a_hundred_per_cent() -> None:
    assert live_text(Figures(done=9999, total=10000), 25) == "siren 9999/10000 99%"


def test_large_numbers_lose_their_label_first() -> None:
    figures = Figures(done=1_234_567, total=9_490_000, running=64)
    assert live_text(figures, 20) == "1234567/9490000 13%"
    assert live_text(replace(figures, total=10**12), 20) == "0%  64 in flight"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (130.0, "2 min 10 s"),
        (3599.6, "1 h 0 min"),
        (7_500.0, "2 h 5 min"),
        (1e9, "?"),
    ],
)
def test_spans(seconds: float, text: str) -> None:
    assert f"ETA {text}," in plain_line(Figures(done=0, total=1, rate=1 / (seconds or 1e-9)))


@pytest.mark.parametrize(
    ("rate", "text"),
    [(0.013, "0.01"), (0.4, "0.40"), (0.96, "1.0"), (99.9, "99.9"), (1234.5, "1234")],
)
def test_rates(rate: float, text: str) -> None:
    figures = replace(USUAL, rate=rate)
    assert f"  {text}/s  " in live_text(figures, 200)
    assert f", {text} runs/s, " in plain_line(figures)


@pytest.mark.parametrize(
    ("tokens", "text"),
    [(0, ""), (999, "999"), (999_499, "999.5k"), (999_999, "1.0M"), (2_500_000_000, "2.5G")],
)
def test_tokens(tokens: int, text: str) -> None:
    line = live_text(replace(USUAL, tokens=tokens), 200)
    assert f"  {text} tokens" in line if text else "tokens" not in line


@pytest.mark.parametrize(
    ("cost", "unpriced", "text"),
    [
        (0.0, True, ""),
        (0.42, False, "$0.42"),
        (0.0012, False, "$0.0012"),
        (12.5, True, "$12.50+"),
    ],
)
def test_cost_is_shown_when_something_has_a_price(cost: float, unpriced: bool, text: str) -> None:
    figures = replace(USUAL, cost=cost, unpriced=unpriced)
    assert live_text(figures, 200).endswith(f"tokens  {text}" if text else "tokens")
    assert plain_line(figures).endswith(f"tokens, {text}" if text else "tokens")


def test_the_plain_line_has_every_figure() -> None:
    assert plain_line(USUAL) == (
        "siren: 412/949 (43 %), 64 in flight, 12.3 runs/s, ETA 44 s, ASR 0.21, utility 0.64, "
        "3 errors, 1.2 M tokens, $0.42"
    )
    assert plain_line(replace(FEW_HELD, errors=1, retries=7)) == (
        "siren: 412/949 (43 %), 64 in flight, 12 held (rate limit), next in 3 s, 12.3 runs/s, "
        "ETA 44 s, ASR 0.21, utility 0.64, 1 error, 7 retries, 1.2 M tokens, $0.42"
    )


def test_a_line_needs_twenty_columns() -> None:
    with pytest.raises(ValueError, match="at least 20 columns, not 19"):
        live_text(USUAL, 19)


_COUNTS = st.integers(0, 10**12)
_FIGURES = st.builds(
    lambda done, left, **others: Figures(done=done, total=done + left, **others),
    done=_COUNTS,
    left=_COUNTS,
    running=_COUNTS,
    held=_COUNTS,
    resumes_in=st.none() | st.floats(0, 1e9),
    rate=st.none() | st.floats(1e-9, 1e9),
    asr=st.none() | st.floats(0, 1),
    utility=st.none() | st.floats(0, 1),
    errors=_COUNTS,
    tokens=_COUNTS,
    cost=st.floats(0, 1e9),
    unpriced=st.booleans(),
    retries=_COUNTS,
)


@given(_FIGURES, st.integers(20, 200))
def test_the_line_fits_and_is_printable_ascii(figures: Figures, width: int) -> None:
    line = live_text(figures, width)
    assert 0 < len(line) <= width
    assert line.isascii()
    assert line.isprintable()


@given(_FIGURES)
def test_the_plain_line_is_one_line_of_ascii(figures: Figures) -> None:
    assert plain_line(figures).isascii()
    assert plain_line(figures).isprintable()
