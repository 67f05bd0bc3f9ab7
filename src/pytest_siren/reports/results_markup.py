"""Rows of text as a table for a paper or a pull request: LaTeX (booktabs) or Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from pytest_siren.reports import mdtext

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
"""What LaTeX takes for an argument of the line break before it."""


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
    """Return ``text`` such that LaTeX prints it as it is."""
    # Two hyphens would become a dash.
    made = "".join(_LATEX.get(char, char) for char in text).replace("--", "-{}-{}")
    return f"{{{made[0]}}}{made[1:]}" if made.startswith(_BREAKS_ROW) else made


def _line(cells: Sequence[str]) -> str:
    return " & ".join(map(escaped, cells)) + r" \\"
