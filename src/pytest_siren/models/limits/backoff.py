"""How long to wait before a request is sent again."""

from __future__ import annotations

from collections.abc import Callable

Random = Callable[[], float]
"""Returns a number from 0 to 1."""

_FAULT_BASE, _FAULT_LONGEST = 0.5, 30.0
_DOUBLINGS = 4
_REFUSAL_BASE, _REFUSAL_LONGEST = 1.0, 60.0


def after_fault(tries: int, random: Random) -> float:
    """Return seconds after ``tries`` faults in a row: full jitter over 0.5 s * 2^n, 30 s at most.

    Full jitter: M. Brooker, "Exponential backoff and jitter", AWS Architecture Blog, 2015.
    """
    return random() * min(_FAULT_LONGEST, _FAULT_BASE * 2.0 ** min(tries, 16))


def after_refusal(refusals: int, advised: float | None, random: Random) -> float:
    """Return seconds after ``refusals`` in a row, the last of which ``advised`` to wait so long.

    Never less than advised; a little more, and the more the oftener, so that those who were refused
    together do not come back together.
    """
    if advised is None:
        return random() * min(_REFUSAL_LONGEST, _REFUSAL_BASE * 2.0 ** min(refusals, 16))
    more = max(0.25, 0.1 * advised) * 2.0 ** min(refusals, _DOUBLINGS)
    return advised + random() * min(_FAULT_LONGEST, more)
