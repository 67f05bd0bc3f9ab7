"""The documentation does what it shows.

A fenced block ```` ```yaml file=NAME ```` is a file of the reader's project. A line of a
```` ```console ```` block that begins with ``$ `` is run in it, and what the block shows below the
command must be printed, in that order; ``...`` stands for anything.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.acceptance.conftest import Project

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    if "```console" in page.read_text() or " file=" in page.read_text()
)
_BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?(?: (norun))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Command:
    line: str
    shown: list[str] = field(default_factory=list)


def commands(text: str) -> list[Command]:
    found: list[Command] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append(Command(line.removeprefix("$ ")))
        elif found and line.strip() and line.strip() != "...":
            found[-1].shown.append(line.rstrip())
    return found


def test_there_are_pages_to_check() -> None:
    assert len(PAGES) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_page_does_what_it_shows(page: Path, project: Project) -> None:
    (project.path / "conftest.py").unlink()
    (project.path / "evals" / "eval_mail.yaml").unlink()
    for language, name, norun, text in _BLOCK.findall(page.read_text()):
        if name:
            project.write(name, text)
        elif language == "console" and not norun:
            for command in commands(text):
                _check(command, project.path)


def _check(command: Command, folder: Path) -> None:
    program, *args = shlex.split(command.line)
    module = {"pytest": "pytest", "siren": "pytest_siren"}.get(program)
    assert module, f"the docs show a command that is not checked: {command.line}"
    done = subprocess.run(
        [sys.executable, "-m", module, *args],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode in (0, 1), f"{command.line}\n{output}"
    position = 0
    for line in command.shown:
        pattern = ".*".join(re.escape(part) for part in line.split("..."))
        match = re.compile(pattern).search(output, position)
        assert match, f"{command.line}\ndid not print: {line}\nbut\n{output}"
        position = match.end()
