"""Rows of figures, on the terminal and in ``results.md``."""

from __future__ import annotations

import argparse
import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

_PATH = re.compile(r"(?:/[^\s/:'\"]+){2,}")
RESULTS = Path(__file__).resolve().parent / "results.md"


@dataclass(frozen=True)
class Target:
    """A row of the first table: what was asked for, and what it came to.

    ``figure`` is compared with ``at_most``; ``None`` says that it could not be measured, and
    ``note`` why.
    """

    work: str
    figure: float | None
    at_most: float
    unit: str
    note: str = ""
    digits: int = 2

    @property
    def verdict(self) -> str:
        if self.figure is None:
            return "not measured"
        return "met" if self.figure <= self.at_most else "**not met**"

    def cells(self) -> tuple[str, ...]:
        figure = "" if self.figure is None else f"{self.figure:.{self.digits}f} {self.unit}"
        limit = f"≤ {self.at_most:g} {self.unit}"
        return self.work, figure, limit, self.verdict, self.note


@dataclass
class Report:
    """What one command measured."""

    name: str
    facts: list[str]
    targets: list[Target] = field(default_factory=list)
    tables: list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def problem(self, error: Exception) -> str:
        """Return the first line of ``error`` for the results, without paths of this machine."""
        return _PATH.sub("...", str(error).splitlines()[0])

    def target(self, target: Target) -> None:
        """Add a row and print it."""
        self.targets.append(target)
        work, figure, limit, verdict, note = target.cells()
        say(f"{work}: {figure or '-'} (target {limit}): {verdict.strip('*')}. {note}".rstrip())

    def markdown(self) -> str:
        """Return the section of this command."""
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        lines = [f"## `python -m benchmarks.{self.name}`, {today}", ""]
        lines += [f"- {fact}" for fact in self.facts]
        if self.targets:
            head = ("work", "figure", "target", "met", "")
            lines += ["", *table(head, [target.cells() for target in self.targets])]
        for title, head, rows in self.tables:
            lines += ["", f"### {title}", "", *table(head, rows)]
        if self.notes:
            lines += ["", *[f"- {note}" for note in self.notes]]
        return "\n".join(lines) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    cells = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]


def deliver(report: Report, path: Path | None) -> None:
    """Write the section of ``report`` into ``path``, or print it."""
    if path is None:
        say("\n" + report.markdown())
    else:
        write(report, path)


def simulation_options(description: str | None) -> argparse.Namespace:
    """Return the options of a simulation's command: ``quick`` and ``results``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a small form of all")
    parser.add_argument("--results", type=Path, help="write the figures there")
    return parser.parse_args()


def write_simulation(
    report: Report, options: argparse.Namespace, results: Path, heading: str
) -> None:
    """Write the section where ``options`` say, the whole form otherwise into ``results``."""
    path = options.results or (None if options.quick else results)
    if path is not None:
        write(report, path, heading)


def write(report: Report, path: Path, heading: str | None = None) -> None:
    """Put the section of ``report`` into ``path``, in the place of the one that it had.

    A new file begins with ``heading``.
    """
    start, end = (f"<!-- {report.name} {word} -->" for word in ("starts", "ends"))
    section = f"{start}\n{report.markdown()}{end}\n"
    old = path.read_text() if path.exists() else heading or _HEADING
    found = re.compile(f"{re.escape(start)}.*{re.escape(end)}\n", re.DOTALL)
    if found.search(old):
        new = found.sub(lambda _: section, old)
    else:
        new = f"{old}\n{section}"
    path.write_text(new)
    say(f"written: {path.name}")


_HEADING = """\
# Results

Written by `make bench`; [README.md](README.md) tells how to read it. Every section
comes from one run of one command.
"""


def say(text: str) -> None:
    """Print a line of progress at once."""
    print(text, flush=True)
