"""The table of ``siren results``, and its forms for Markdown, CSV and HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from pytest_siren.evaluation.scores import WORDS
from pytest_siren.reports import markdown as mdtext

NAMES = ("dataset", "dataset_suite", "agent_type", "agent_name", "attack_type")
_IDLE = {
    **{name: "0" for name in ("n_cancelled", "n_benign_unknown", "n_attack_unknown")},
    **{f"n_{finish}": "0" for finish in WORDS},
    "jobs": "1",
}
"""Columns that are left out if all rows have this value."""
LEFT = (*NAMES, "task", "benign_task", "malicious_task", "vector", "job", "configuration")
"""Columns of names; all others hold numbers."""
_WIDEST = 100_000
"""Width of a line that stands for no limit."""
_NARROWEST = 40


def draw(
    rows: Sequence[Mapping[str, str]],
    out: TextIO,
    width: int | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write ``rows``, which have the same columns, to ``out``, and ``notes`` below.

    If ``out`` is a terminal, or ``width`` is given, no line is wider than that.
    """
    rows = without_constant_columns(rows)
    if width is None and not out.isatty():
        lines = [*_aligned(rows), *notes]
    else:
        console = Console(file=out, width=width, highlight=False, markup=False, emoji=False)
        lines = _on_terminal(rows, console)
        for note in notes:
            lines += _flow(note.split(), max(console.width, _NARROWEST), " ", "")
    out.write("".join(f"{line}\n" for line in lines))


def _on_terminal(rows: Sequence[Mapping[str, str]], console: Console) -> list[str]:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in rows[0]:
        table.add_column(Text(name), justify="left" if name in LEFT else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(text) for text in row.values()))
    anything = console.options.update(max_width=_WIDEST)
    if Measurement.get(console, anything, table).maximum > console.width:
        return _blocks(rows, max(console.width, _NARROWEST))
    with console.capture() as drawn:
        console.print(table)
    return [line.rstrip() for line in drawn.get().splitlines()]


def _aligned(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the lines of a table for a program or a file."""
    names = list(rows[0])
    cells = [names, *(list(row.values()) for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(_padded, names, line, widths)).rstrip() for line in cells]


def _padded(name: str, text: str, width: int) -> str:
    padding = " " * (width - cell_len(text))
    return text + padding if name in LEFT else padding + text


def without_constant_columns(rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Return ``rows`` without columns in which every row has the default value."""
    idle = {
        name
        for name in rows[0]
        if {row[name] for row in rows} == {_IDLE.get(name, "")}
        or (name == "configuration" and not _alike(rows))
    }
    return [{name: text for name, text in row.items() if name not in idle} for row in rows]


def _alike(rows: Sequence[Mapping[str, str]]) -> bool:
    """Return whether some rows differ in nothing but their configuration."""
    names = [tuple(row[name] for name in LEFT[:-1] if name in row) for row in rows]
    return len(set(names)) < len(names)


def _blocks(rows: Sequence[Mapping[str, str]], width: int) -> list[str]:
    lines: list[str] = []
    for row in rows:
        lines += [""] if lines else []
        titles = [text for name, text in row.items() if name in LEFT and text]
        lines += _flow([*(f"{title} |" for title in titles[:-1]), titles[-1]], width, " ", "")
        figures = [f"{name} {text}" for name, text in row.items() if name not in LEFT and text]
        lines += _flow(figures, width, "   ", "  ")
    return lines


def _flow(pieces: Sequence[str], width: int, gap: str, indent: str) -> list[str]:
    """Return ``pieces`` on as few lines as possible; one that is too long is broken."""
    lines = [indent]
    for piece in pieces:
        joined = lines[-1] + (gap if lines[-1].strip() else "") + piece
        if cell_len(joined) <= width or not lines[-1].strip():
            lines[-1] = joined
        else:
            lines.append(f"  {indent}{piece}")
    folded = Console(width=width, color_system=None)
    return [str(part) for line in lines for part in Text(line).wrap(folded, width, overflow="fold")]


_LATEX: Mapping[str, str] = MappingProxyType(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "$": r"\$",
        "&": r"\&",
        "#": r"\#",
        "%": r"\%",
        "_": r"\_",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\textquotedbl{}",
        "`": r"\textasciigrave{}",
        "'": r"\textquotesingle{}",
    }
)
_BREAKS_ROW = ("[", "*")
"""Characters that LaTeX reads as an argument of a preceding line break."""


def markdown(rows: Sequence[Mapping[str, str]], left: Sequence[str], notes: Sequence[str]) -> str:
    """Return a Markdown table of ``rows``, which have the same columns, and ``notes`` below it.

    Columns ``left`` hold names, all others numbers.
    """
    names = list(rows[0])
    cells = (
        [mdtext.quoted(text) if name in left and text else text for name, text in row.items()]
        for row in rows
    )
    right = [at for at, name in enumerate(names) if name not in left]
    below = "".join(f"\n{mdtext.prose(note)}\n" for note in notes)
    return mdtext.table(names, cells, right=right) + below


def latex(rows: Sequence[Mapping[str, str]], left: Sequence[str], notes: Sequence[str]) -> str:
    """Return a ``tabular`` of ``rows`` for the package booktabs, with ``notes`` in its last rows.

    Every character of a cell is text to LaTeX.
    """
    names = list(rows[0])
    columns = "".join("l" if name in left else "r" for name in names)
    lines = [
        r"% \usepackage{booktabs}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _line(names),
        r"\midrule",
        *(_line(list(row.values())) for row in rows),
        r"\bottomrule",
        *(rf"\multicolumn{{{len(names)}}}{{l}}{{{escaped(note)}}} \\" for note in notes),
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Return ``text`` escaped for LaTeX."""
    # LaTeX would print two hyphens as a dash.
    made = "".join(_LATEX.get(char, char) for char in text).replace("--", "-{}-{}")
    return f"{{{made[0]}}}{made[1:]}" if made.startswith(_BREAKS_ROW) else made


def _line(cells: Sequence[str]) -> str:
    return " & ".join(map(escaped, cells)) + r" \\"
