"""Whether work grows in proportion to its input: ratios of CPU time hold on any machine."""

from __future__ import annotations

import time
from collections.abc import Callable

_TIMES = 8
"""How many times longer the long input is."""
_LEEWAY = 3.0
"""Quadratic work takes ``_TIMES`` times more than in proportion."""
_NEGLIGIBLE = 30e-9
"""CPU seconds a character: below, caches and page faults outweigh the work."""


def grows_linearly(work: Callable[[str], object], unit: str, size: int) -> bool:
    """Return whether ``work`` on ``size`` characters takes about 8 times that on an eighth."""
    long = unit * max(1, size // len(unit))
    short = unit * max(1, size // _TIMES // len(unit))
    # The second and third time are for a machine that was busy with something else.
    return any(_in_proportion(work, short, long) for _ in range(3))


def _in_proportion(work: Callable[[str], object], short: str, long: str) -> bool:
    whole = _cpu_seconds(work, long)
    if whole < _NEGLIGIBLE * len(long):
        return True
    part = min(_cpu_seconds(work, short) for _ in range(2))
    return whole < part * len(long) / len(short) * _LEEWAY


def _cpu_seconds(work: Callable[[str], object], text: str) -> float:
    began = time.process_time()
    work(text)
    return time.process_time() - began
