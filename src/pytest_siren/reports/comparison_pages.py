"""Renders a comparison as text and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pytest_siren.metrics.compare.effects import Pooled
from pytest_siren.metrics.compare.paired import MeasureComparison
from pytest_siren.metrics.compare.pairing import UnpairedRuns, Unscored
from pytest_siren.metrics.compare.selective import SelectiveRisk
from pytest_siren.metrics.compare.significance import PairedTestResult
from pytest_siren.metrics.rates.choices import dollars
from pytest_siren.reports.comparison import ComparisonReport, Side, p_text
from pytest_siren.reports.markdown import prose, quoted, table
from pytest_siren.text.words import counted


def head(confidence: float) -> tuple[str, ...]:
    """Return the headings of the cells of ``row``."""
    interval = f"{confidence * 100:g} % interval"
    return ("", "pairs", "A", "B", "B - A", interval, "p", "q", "")


def row(test: PairedTestResult, level: float) -> tuple[str, ...]:
    """Return one test as the cells of a table."""
    found = test.difference
    return (
        test.group,
        f"{test.pairs:,}",
        f"{test.left:.3f}",
        f"{test.right:.3f}",
        f"{found.value:+.3f}",
        f"n/a ({found.lacking})" if found.lacking else f"{found.low:+.3f} to {found.high:+.3f}",
        p_text(test.p),
        p_text(test.q),
        ""
        if test.q >= level or not test.worsening
        else "worse"
        if test.worsening > 0
        else "better",
    )


def sizes(test: PairedTestResult) -> Iterator[str]:
    """Yield the effect sizes over all pairs, and further tests."""
    counts, found = test.mcnemar, test.effects
    ratio = f"{counts.odds_ratio:.3g}"
    if counts.low is not None and counts.high is not None:
        ratio = f"{ratio} ({counts.low:.3g} to {counts.high:.3g})"
    yield (
        f"McNemar: {counts.gained:,} only B, {counts.lost:,} only A, odds ratio {ratio}, "
        f"p {p_text(counts.p)}"
    )
    low, high = test.bootstrap
    yield f"bootstrap {low:+.3f} to {high:+.3f}, permutation p {p_text(test.permutation_p)}"
    d = "undefined" if found.cohen_d is None else f"{found.cohen_d:+.2f}"
    yield (
        f"Cohen's d_z {d}, Cliff's delta {found.cliff_delta:+.3f}, Hodges-Lehmann "
        f"{found.hodges_lehmann:+.3f}, Wilcoxon p {p_text(found.wilcoxon_p)}"
    )
    if test.non_inferiority is not None:
        tested = test.non_inferiority
        shown = "shown" if tested.shown else "not shown"
        yield f"worse by less than {tested.margin:g}: {shown}, p {p_text(tested.p)}"
    if test.detectable is not None:
        yield f"a true difference of {test.detectable:.3f} would be found 80 % of the time"


def together(one: MeasureComparison) -> Iterator[str]:
    """Yield the meta-analysis over datasets."""
    if one.meta is not None:
        found = one.meta
        yield (
            f"{found.studies} groups together: fixed {_pooled(found.fixed)}, random "
            f"{_pooled(found.random)}; Q {found.q:.2f}, p {p_text(found.q_p)}, "
            f"I2 {found.i_squared:.0%}, tau2 {found.tau_squared:.4f}"
        )


def trusted(one: MeasureComparison) -> Iterator[str]:
    """Yield the selective risk of either side."""
    if one.selective is None:
        return
    left, right = one.selective
    yield (
        f"selective risk, {counted(left.tasks, 'task')}: {_trusted('A', left)}, "
        f"{_trusted('B', right)} where all other runs of a task went well; "
        f"AURC A {left.aurc:.3f}, B {right.aurc:.3f}"
    )


def left_out(one: MeasureComparison) -> Iterator[str]:
    """Yield the runs that are in no pair, and why."""
    overlap = one.overlap
    if overlap.left_out:
        reasons = [
            *_unscored("A", overlap.unscored_baseline),
            *_unscored("B", overlap.unscored_runs),
        ]
        yield f"set apart: {counted(overlap.left_out, 'pair')} ({', '.join(reasons)})"
    yield from _alone("A", overlap.only_baseline)
    yield from _alone("B", overlap.only_runs)
    balance = one.balance
    if balance.level != "even":
        counts = f"{balance.left:,} runs in A, {balance.right:,} in B"
        yield f"{'warning: ' if balance.level == 'warned' else ''}uneven: {counts}"


def usage_rows(report: ComparisonReport) -> Iterator[tuple[str, str, str]]:
    """Yield the usage of the runs: a name and the figure of either side."""
    left, right = report.comparison.left, report.comparison.right
    yield "runs", f"{left.runs:,}", f"{right.runs:,}"
    yield "input tokens", _number(left.input_tokens), _number(right.input_tokens)
    yield "output tokens", _number(left.output_tokens), _number(right.output_tokens)
    yield "cost", _cost(left.cost, left.unpriced), _cost(right.cost, right.unpriced)
    yield "seconds per run", _seconds(left.seconds), _seconds(right.seconds)


def side(found: Side) -> str:
    """Return a description of a side, on one line."""
    parts = [counted(found.runs, "run")]
    for count, what in (
        (found.errors, "in error"),
        (found.cancelled, "cancelled"),
        (found.pending, "pending"),
    ):
        parts += [f"{count:,} {what}"] if count else []
    return f"{found.target} ({found.where}): {', '.join(parts)}; {'; '.join(found.contents)}"


def _trusted(name: str, found: SelectiveRisk) -> str:
    best = found.points[0]
    if best.threshold < 1.0:
        return f"{name} nothing"
    return f"{name} {best.risk:.3f} at coverage {best.coverage:.3f}"


def _word(test: PairedTestResult) -> str:
    return "worse" if test.worsening > 0.0 else "better"


def _pooled(found: Pooled) -> str:
    return f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def _unscored(name: str, found: Unscored) -> Iterator[str]:
    for count, what in (
        (found.errors, "in error"),
        (found.cancelled, "cancelled"),
        (found.unknown, "with an unknown score"),
    ):
        if count:
            yield f"{name}: {count:,} {what}"


def _alone(name: str, found: UnpairedRuns) -> Iterator[str]:
    if not found.runs:
        return
    parts = [f"datasets {', '.join(found.datasets)}"] if found.datasets else []
    if found.examples:
        what = f"{counted(found.tasks, 'task')}, as " if found.tasks else "as "
        parts.append(f"{what}{', '.join(found.examples)}")
    details = f": {'; '.join(parts)}" if parts else ""
    yield f"only in {name}: {counted(found.runs, 'run')}{details}"


def _number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _cost(value: float | None, unpriced: int) -> str:
    if value is None:
        return "unknown"
    return f"{'at least ' if unpriced else ''}{dollars(value)}"


def _seconds(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.1f}"


def text_lines(report: ComparisonReport) -> Iterator[str]:
    """Yield the lines of the report; names in them are data, to be escaped for a terminal."""
    found = report.comparison
    yield f"A: {side(report.left)}"
    yield f"B: {side(report.right)}"
    if report.differences:
        yield "configuration:"
        yield from (f"  {line}" for line in report.differences)
    yield from (f"note: {note}" for note in (*found.notes, *report.notes))
    for one in found.measures:
        yield ""
        yield from _measure(one, found.confidence)
    yield ""
    yield from _aligned([("", "A", "B"), *usage_rows(report)])
    yield ""
    yield report.verdict


def _measure(one: MeasureComparison, confidence: float) -> Iterator[str]:
    yield f"{one.measure}: {counted(one.overlap.pairs, 'pair')} scored on both sides"
    if one.tests:
        rows = [row(test, 1.0 - confidence) for test in one.tests]
        yield from _aligned([head(confidence), *rows])
        yield from (f"  {line}" for line in sizes(one.tests[0]))
    yield from (f"  {line}" for line in (*together(one), *trusted(one), *left_out(one)))


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:
        others = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
        yield f"  {cells[0].ljust(widths[0])}  {'  '.join(others)}".rstrip()


_LONGEST = 400


def markdown(report: ComparisonReport) -> str:
    """Return the report; names from datasets and models are escaped."""
    return "\n".join(_blocks(report))


def _blocks(report: ComparisonReport) -> Iterator[str]:
    found = report.comparison
    yield f"**{prose(report.verdict, _LONGEST)}**\n"
    sides = (f"A: {side(report.left)}", f"B: {side(report.right)}")
    yield _listed([*sides, *report.differences, *found.notes, *report.notes])
    for one in found.measures:
        yield from _comparison_markdown_measure(one, found.confidence)
    yield "### Tokens and cost\n"
    yield table(("", "A", "B"), usage_rows(report), right=(1, 2))


def _comparison_markdown_measure(one: MeasureComparison, confidence: float) -> Iterator[str]:
    pairs = counted(one.overlap.pairs, "pair")
    yield f"### {quoted(one.measure)}: {pairs} scored on both sides\n"
    if one.tests:
        rows = [row(test, 1.0 - confidence) for test in one.tests]
        yield table(
            head(confidence),
            [(quoted(cells[0]), *cells[1:]) for cells in rows],
            right=range(1, 8),
        )
        yield _listed(sizes(one.tests[0]))
    yield _listed([*together(one), *trusted(one), *left_out(one)])


def _listed(lines: Iterable[str]) -> str:
    return "".join(f"- {prose(line, _LONGEST)}\n" for line in lines)
