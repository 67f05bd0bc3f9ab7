"""How many more runs, or tasks, would settle a gate on a rate."""

from __future__ import annotations

from math import ceil, sqrt

from scipy.stats import norm

from pytest_siren.metrics.estimates import Estimate
from pytest_siren.metrics.intervals import all_or_none, mid_p
from pytest_siren.metrics.settling import CHANCE, MOST_RUNS, Need, smallest

_Z = float(norm.ppf(CHANCE))


def rate_need(found: Estimate, bound: float, *, k: int = 1, confidence: float = 0.95) -> Need:
    """Return what would bring the interval of ``found`` clear of ``bound``.

    Further tasks are taken to be as much alike, with as many runs. What further runs of the same
    tasks are worth follows from how much the present ones are: ``n`` runs of a task whose
    correlation is ``r`` are worth ``n / (1 + (n - 1) r)`` independent ones (Kish 1965, *Survey
    Sampling*), which is never more than ``1 / r``. With one run of each task r is not known, for
    ``k`` > 1 or clusters of several units it is not worked out: then tasks are told. For the number
    that is told the interval is clear in four of five cases (``CHANCE``).
    """
    repeated = _repeated(found, k)
    if found.value == bound:
        return Need(repeated=repeated)

    def settled(size: float) -> bool:
        return _settled(found, size, bound, confidence)

    mean_runs = found.runs / found.units
    most = found.effective * max(1.0, MOST_RUNS / found.runs)
    size = smallest(settled, found.effective, most)
    tasks = None
    if size is not None and not (found.units == 1 and found.runs > 1):
        tasks = max(1, ceil((size / found.effective - 1.0) * found.units))
    each = _each(found, size, mean_runs) if repeated else None
    if each is not None:
        return Need(max(1, ceil(each * found.units - found.runs)), each, tasks)
    if tasks is None:
        return Need(repeated=repeated)
    return Need(ceil(tasks * mean_runs), tasks=tasks, repeated=repeated)


def _repeated(found: Estimate, k: int) -> bool | None:
    """Tell whether it is known what more runs of the same tasks do; ``None``: not worked out."""
    if found.units == 1:
        return True if k == 1 else None
    if k > 1 or found.clusters != found.units:
        return None
    return found.runs > found.units


def _settled(found: Estimate, size: float, bound: float, confidence: float) -> bool:
    """Tell whether ``size`` independent observations would settle it, in four of five cases."""
    value = found.value
    if value in (0.0, 1.0):
        times = size / found.effective
        return all_or_none(found.clusters * times, confidence) < abs(value - bound)
    added = max(0.0, size - found.effective)
    off = _Z * sqrt(value * (1.0 - value) * added) / size
    if off >= abs(value - bound):
        return False
    low, high = mid_p(value - off if bound < value else value + off, size, confidence)
    return bool(high < bound or low > bound)


def _each(found: Estimate, size: float | None, mean_runs: float) -> int | None:
    """Return the runs of each task that are worth ``size`` observations; ``None`` where none is."""
    if size is None:
        return None
    if found.units == 1:
        return ceil(size)
    if found.value in (0.0, 1.0):
        # Whatever the runs say, the interval counts clusters.
        return None
    alike = (found.runs / found.effective - 1.0) / (mean_runs - 1.0)
    alike = min(1.0, max(0.0, alike))
    share = size / found.units
    if share * alike >= 1.0:
        return None
    each = ceil(share * (1.0 - alike) / (1.0 - share * alike))
    return each if each * found.units <= max(MOST_RUNS, found.runs) else None
