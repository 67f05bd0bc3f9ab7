"""Formats numbers for readers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from pytest_siren.text.words import counted

_NONE = "\u2013"


def percent(value: float | None) -> str:
    """Return a rate as ``47.7 %``; none and all have no decimals."""
    if value is None:
        return _NONE
    return f"{100 * value:.{0 if value in (0, 1) else 1}f} %"


def interval(low: float, high: float) -> str:
    """Return the ends of an interval, in per cent."""
    return f"{100 * low:.1f} to {100 * high:.1f}"


def points(value: float | None) -> str:
    """Return a difference of rates in percentage points, with its sign."""
    return _NONE if value is None else f"{100 * value:+.1f}".replace("-", "\u2212")


def count(value: int | float) -> str:
    """Return a number with separators between its thousands."""
    return f"{value:,.0f}"


def dollars(value: float) -> str:
    """Return US dollars with two decimals, more below a cent."""
    if value == 0:
        return "$0"
    return f"${value:,.2f}" if value >= 0.01 else f"${value:.2g}"


def seconds(value: float) -> str:
    """Return a duration in the largest fitting units."""
    if value < 60:
        return f"{value:.3g} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def moment(value: datetime) -> str:
    """Return a time to the minute, with its zone."""
    return value.strftime("%Y-%m-%d %H:%M %Z").strip()


FILTERS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "percent": percent,
        "points": points,
        "count": count,
        "dollars": dollars,
        "seconds": seconds,
        "moment": moment,
        "plural": counted,
    }
)
