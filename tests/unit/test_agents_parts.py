"""Paths, placeholders and command lines in the configurations of agents."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_siren.agents.json_path import NothingThereError, look_up, steps
from pytest_siren.environments.command_line import CommandLine
from pytest_siren.environments.placeholders import fill, names_in

DOCUMENT = {"choices": [{"message": {"content": "hello"}}, "last"], "a key": {"x.y": 1}, "n": None}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("choices[0].message.content", "hello"),
        ("$.choices[-1]", "last"),
        ('["a key"]["x.y"]', 1),
        ("$", DOCUMENT),
        ("n", None),
    ],
)
def test_a_path_leads_to_a_value(path: str, found: Any) -> None:
    assert look_up(path, DOCUMENT) == found


@pytest.mark.parametrize("path", ["choices[7]", "choices.x", "n.x", "choices[1][0]", "x", "$[0]"])
def test_a_path_to_nothing_says_what_there_is(path: str) -> None:
    with pytest.raises(NothingThereError, match=r"no .* in \{\"choices\": \[\{\"message\""):
        look_up(path, DOCUMENT)


@pytest.mark.parametrize("path", ["a..b", "a[b]", "[", "a b", "a.", "*"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="is no path such as"):
        steps(path)


def test_placeholders_are_filled_once_and_others_stay() -> None:
    value = {"text": "{prompt} {other}", "list": [1, "{run}", None], "{run}": True}
    filled = fill(value, {"prompt": "say {run}", "run": "7"})
    assert filled == {"text": "say {run} {other}", "list": [1, "7", None], "{run}": True}
    assert names_in(value) == {"prompt", "other", "run"}
    assert names_in({1: 2.0}) == set()


def test_a_command_is_split_as_a_shell_would(tmp_path: Path) -> None:
    script = tmp_path / "my agent.py"
    script.touch()
    line = CommandLine.of("{python} '{folder}/my agent.py' x", tmp_path, "command")
    assert line.words[0] == sys.executable
    assert line.words[1:] == (str(script.resolve()), "x")
    assert (line.name, line.files) == ("my agent.py", (script.resolve(),))
    listed = CommandLine.of([sys.executable, "a b", "x" * 5000], tmp_path, "command")
    assert listed.words[1] == "a b"
    assert listed.files == ()


def test_a_program_beside_the_eval_file_is_found(tmp_path: Path) -> None:
    program = tmp_path / "agent"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    link = tmp_path / "linked"
    link.symlink_to(program)
    for name in ("agent", "linked"):
        line = CommandLine.of(f"./{name}", tmp_path, "command")
        assert line.words == (str(tmp_path / name),), "links stay what they are"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("'open", "agent.command cannot be split into words: No closing quotation"),
        ("  ", "agent.command is empty"),
        ("./none", r"agent.command: '\./none' is no file that can be executed: there is no such"),
    ],
)
def test_a_command_that_cannot_be_started_is_refused(
    tmp_path: Path, command: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        CommandLine.of(command, tmp_path, "agent.command")
