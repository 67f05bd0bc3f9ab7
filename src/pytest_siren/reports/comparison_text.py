"""A comparison as plain text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_siren.metrics.paired import Compared
from pytest_siren.reports import comparison_words as words
from pytest_siren.reports.comparison import ComparisonReport


def text_lines(report: ComparisonReport) -> Iterator[str]:
    """Yield the lines of the report; names in them are data, to be escaped for a terminal."""
    found = report.comparison
    yield f"A: {words.side(report.left)}"
    yield f"B: {words.side(report.right)}"
    if report.differences:
        yield "configuration:"
        yield from (f"  {line}" for line in report.differences)
    yield from (f"note: {note}" for note in (*found.notes, *report.notes))
    for one in found.measures:
        yield ""
        yield from _measure(one, found.confidence)
    yield ""
    yield from _aligned([("", "A", "B"), *words.usage_rows(report)])
    yield ""
    yield report.verdict


def _measure(one: Compared, confidence: float) -> Iterator[str]:
    yield f"{one.measure}: {words.counted(one.overlap.pairs, 'pair')} scored on both sides"
    if one.tests:
        rows = [words.row(test, 1.0 - confidence) for test in one.tests]
        yield from _aligned([words.head(confidence), *rows])
        yield from (f"  {line}" for line in words.sizes(one.tests[0]))
    yield from (
        f"  {line}" for line in (*words.together(one), *words.trusted(one), *words.left_out(one))
    )


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:
        others = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
        yield f"  {cells[0].ljust(widths[0])}  {'  '.join(others)}".rstrip()
