"""A comparison as Markdown, for a pull request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pytest_siren.metrics.paired import Compared
from pytest_siren.reports import comparison_words as words
from pytest_siren.reports.comparison import ComparisonReport
from pytest_siren.reports.mdtext import prose, quoted, table

_LONGEST = 400


def markdown(report: ComparisonReport) -> str:
    """Return the report. Nothing that datasets or models have named is obeyed as Markdown."""
    return "\n".join(_blocks(report))


def _blocks(report: ComparisonReport) -> Iterator[str]:
    found = report.comparison
    yield f"**{prose(report.verdict, _LONGEST)}**\n"
    sides = (f"A: {words.side(report.left)}", f"B: {words.side(report.right)}")
    yield _listed([*sides, *report.differences, *found.notes, *report.notes])
    for one in found.measures:
        yield from _measure(one, found.confidence)
    yield "### Tokens and cost\n"
    yield table(("", "A", "B"), words.usage_rows(report), right=(1, 2))


def _measure(one: Compared, confidence: float) -> Iterator[str]:
    pairs = words.counted(one.overlap.pairs, "pair")
    yield f"### {quoted(one.measure)}: {pairs} scored on both sides\n"
    if one.tests:
        rows = [words.row(test, 1.0 - confidence) for test in one.tests]
        yield table(
            words.head(confidence),
            [(quoted(cells[0]), *cells[1:]) for cells in rows],
            right=range(1, 8),
        )
        yield _listed(words.sizes(one.tests[0]))
    yield _listed([*words.together(one), *words.trusted(one), *words.left_out(one)])


def _listed(lines: Iterable[str]) -> str:
    return "".join(f"- {prose(line, _LONGEST)}\n" for line in lines)
