"""The cells of a sweep in one table, below the summary of its jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.cells import cell_len

from pytest_siren.jobs.cells import differing
from pytest_siren.jobs.sweeps import Sweep, SweepError, read_sweep
from pytest_siren.metrics.rates.choices import Estimate
from pytest_siren.metrics.rates.summary import SummaryRow
from pytest_siren.text.words import printable

_WIDEST_NAME = 28


def cells_table(rows: Sequence[SummaryRow], sweep_id: str, width: int) -> list[str]:
    """Return the lines of the table; none unless ``rows`` are several jobs of that sweep.

    Intervals are left out where they would make lines wider than ``width`` terminal cells.
    """
    if len({row.job for row in rows}) < 2:
        return []
    try:
        sweep = read_sweep(Path(rows[0].job).parent, sweep_id)
    except SweepError:
        sweep = None  # the writer of the file has warned of it
    if sweep is None or not all(Path(row.job).name in sweep.jobs for row in rows):
        return []
    apart = differing(sweep.cells)
    lines = _aligned(_table(rows, sweep, apart, intervals=True))
    if max(map(cell_len, lines)) > width:
        lines = _aligned(_table(rows, sweep, apart, intervals=False))
    there = f"{len(rows):,} of {len(sweep.jobs):,}" if len(rows) < len(sweep.jobs) else len(rows)
    return [f"sweep {sweep.id} | {there} cells", *lines]


def _table(
    rows: Sequence[SummaryRow],
    sweep: Sweep,
    apart: Mapping[str, Mapping[str, str]],
    *,
    intervals: bool,
) -> list[dict[str, str]]:
    made = []
    for row in sorted(rows, key=lambda one: sweep.jobs.index(Path(one.job).name)):
        name = Path(row.job).name
        values = {key: printable(text, _WIDEST_NAME) for key, text in apart.get(name, {}).items()}
        made.append(
            {
                "cell": str(sweep.jobs.index(name) + 1),
                **values,
                "runs": f"{row.runs:,}",
                "errors": f"{row.errors:,}",
                "utility": _utility(row, intervals=intervals),
                "ASR": "" if row.attack is None else _figure(row.asr, intervals=intervals),
            }
        )
    return made


def _utility(row: SummaryRow, *, intervals: bool) -> str:
    # There is none where only pass@k for higher k was asked for.
    return _figure(row.benign_pass[1], intervals=intervals) if 1 in row.benign_pass else ""


def _figure(rate: Estimate | None, *, intervals: bool) -> str:
    if rate is None:
        return "n/a"
    beside = f" [{rate.low:.3f}, {rate.high:.3f}]" if intervals else ""
    return f"{rate.value:.3f}{beside}"


_NUMBERS = ("cell", "runs", "errors", "utility", "ASR")


def _aligned(rows: Sequence[Mapping[str, str]]) -> list[str]:
    names = [name for name in rows[0] if any(row.get(name) for row in rows)]
    columns = [
        [printable(name, _WIDEST_NAME), *(row.get(name, "") for row in rows)] for name in names
    ]
    padded = []
    for name, column in zip(names, columns, strict=True):
        widest = max(map(cell_len, column))
        spaces = [" " * (widest - cell_len(text)) for text in column]
        padded.append(
            [
                space + text if name in _NUMBERS else text + space
                for text, space in zip(column, spaces, strict=True)
            ]
        )
    return [f"  {'  '.join(line)}".rstrip() for line in zip(*padded, strict=True)]
