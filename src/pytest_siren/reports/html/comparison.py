"""The comparison with a baseline, as the template shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_siren.metrics.paired import Increase, Unscored
from pytest_siren.metrics.pairing import Alone
from pytest_siren.reports.html.numbers import plural

_BETTER_WHEN_HIGHER = {
    "utility": True,
    "utility_under_attack": True,
    "asr": False,
    "error_rate": False,
}


@dataclass(frozen=True)
class Compared:
    """One measure, on both sides."""

    increase: Increase
    verdict: str
    """``better``, ``worse`` or ``unclear``: whether the interval holds no difference."""
    apart: tuple[str, ...]
    """What could not be compared, in a few words each."""


def compared(increases: Sequence[Increase] | None) -> list[Compared]:
    """Return what is shown of a comparison; nothing without one."""
    return [Compared(one, _verdict(one), _apart(one)) for one in increases or ()]


def _verdict(one: Increase) -> str:
    if one.difference is None or one.difference.low <= 0 <= one.difference.high:
        return "unclear"
    rises = one.difference.value > 0
    return "better" if rises is _BETTER_WHEN_HIGHER[one.measure] else "worse"


def _apart(one: Increase) -> tuple[str, ...]:
    said: list[str] = []
    if one.left_out:
        said.append(f"{plural(one.left_out, 'pair')} without a score on both sides")
    said += _unscored(one.unscored_baseline, "the baseline")
    said += _unscored(one.unscored_runs, "these runs")
    said += _alone(one.only_baseline, "in the baseline only")
    said += _alone(one.only_runs, "in these runs only")
    return tuple(said)


def _unscored(found: Unscored, where: str) -> list[str]:
    counts = (
        plural(found.errors, "error") if found.errors else "",
        f"{found.cancelled:,} cancelled" if found.cancelled else "",
        f"{found.unknown:,} unknown" if found.unknown else "",
    )
    told = ", ".join(filter(None, counts))
    return [f"{told} in {where}"] if told else []


def _alone(found: Alone, where: str) -> list[str]:
    if not found.runs:
        return []
    named = ", ".join([*found.datasets, *found.examples][:5])
    return [f"{plural(found.runs, 'run')} {where}" + (f" ({named})" if named else "")]
