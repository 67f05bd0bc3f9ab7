"""Gates that did not hold, as annotations of GitHub Actions.

The form of workflow commands: docs.github.com, "Workflow commands for GitHub Actions".
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pytest_siren.metrics.gates.result import GateResult, Verdict
from pytest_siren.text.words import escaped

MOST = 10
"""GitHub shows so many errors of a step, and so many warnings."""
_LONGEST = 1_000
_COMMANDS = {Verdict.BROKEN: "error", Verdict.INCONCLUSIVE: "warning"}


def annotate(gates: Iterable[GateResult], root: Path, source_root: Path) -> list[str]:
    """Return a line for each gate that was broken or stayed open, the broken ones first.

    ``root`` is the folder that files are named relative to, ``source_root`` the one that GitHub
    checked out. Beyond ``MOST`` of a kind, the last line counts the others.
    """
    found = list(gates)
    lines = []
    for verdict, command in _COMMANDS.items():
        such = [gate for gate in found if gate.verdict is verdict]
        if len(such) <= MOST:
            lines += [_line(command, gate, root, source_root) for gate in such]
            continue
        lines += [_line(command, gate, root, source_root) for gate in such[: MOST - 1]]
        more = f"{len(such) - MOST + 1:,} more gates are {verdict}; see the log"
        lines.append(f"::{command} title=pytest-siren::{_data(more)}")
    return lines


def _line(command: str, gate: GateResult, root: Path, source_root: Path) -> str:
    properties = {}
    file, *_ = gate.source.split("::")  # of a test function, if there is more
    path = root / file
    if path.is_file() and path.is_relative_to(source_root):
        properties["file"] = path.relative_to(source_root).as_posix()
        if number := _line_number(path, gate.gate):
            properties["line"] = str(number)
    properties["title"] = f"Gate {gate.verdict}: {gate.gate}"
    text = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{command} {text}::{_data(_message(gate))}"


def _message(gate: GateResult) -> str:
    return gate.why or gate.gate


def _line_number(path: Path, gate: str) -> int | None:
    """Return the first line that shows the gate as it was given; ``None`` if none does."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    return next((number for number, line in enumerate(lines, start=1) if gate in line), None)


def _data(text: str) -> str:
    shown = escaped(text[:_LONGEST])
    return shown.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
