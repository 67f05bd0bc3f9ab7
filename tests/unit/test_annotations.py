"""Annotations of GitHub Actions."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from pytest_siren.metrics.gates.result import Verdict
from pytest_siren.session.config.option_groups import on_github
from pytest_siren.session.reporting.annotations import MOST, annotate
from tests.unit.reports_sample import gate


def test_broken_gates_are_errors_and_inconclusive_ones_warnings(tmp_path: Path) -> None:
    gates = [
        gate(Verdict.HELD),
        gate(Verdict.INCONCLUSIVE, why="too few runs; about 1,200 more would do", more_runs=1_200),
        gate(),
    ]
    assert annotate(gates, tmp_path, tmp_path) == [
        "::error title=Gate broken%3A asr <= 0.05::the whole interval is above 0.05",
        "::warning title=Gate inconclusive%3A asr <= 0.05::too few runs; about 1,200 more would do",
    ]


def test_the_place_of_the_gate_is_named_from_where_github_checked_out(tmp_path: Path) -> None:
    root = tmp_path / "agents"
    (root / "evals").mkdir(parents=True)
    name = "evals/eval_a,b.yaml"
    (root / name).write_text("runs: 3\ngates:\n  - utility >= 0.8\n  - asr <= 0.05\n")
    found, elsewhere = annotate(
        [gate(source=name), gate(source=name, gate="asr <= 0.1")], root, tmp_path
    )
    assert found.startswith("::error file=agents/evals/eval_a%2Cb.yaml,line=4,title=Gate")
    assert elsewhere.startswith("::error file=agents/evals/eval_a%2Cb.yaml,title=Gate")
    assert "file=" not in annotate([gate(source="evals/gone.yaml")], root, tmp_path)[0]
    assert "file=" not in annotate([gate(source=name)], root, tmp_path / "other")[0]


def test_a_gate_of_a_test_function_is_in_its_file(tmp_path: Path) -> None:
    (tmp_path / "test_shop.py").write_text('@mark(\n    gates=["asr <= 0.05"])\n')
    (line,) = annotate([gate(source="test_shop.py::test_shop")], tmp_path, tmp_path)
    assert line.startswith("::error file=test_shop.py,line=2,title=Gate")


def test_text_cannot_begin_a_command_or_a_property(tmp_path: Path) -> None:
    evil = "100%\n::error::owned\r::set-output name=x::y,file=/etc/passwd:1\x1b[2J"
    (line,) = annotate([gate(gate=evil, why=evil)], tmp_path, tmp_path)
    command, _, message = line.removeprefix("::error ").partition("::")
    assert "\n" not in line
    assert "\r" not in line
    assert "\x1b" not in line
    assert command.count("=") - evil.count("=") == 1
    assert ":" not in command
    assert "," not in command
    assert message.startswith("100%25 ::error::owned")


def test_no_more_are_given_than_github_shows(tmp_path: Path) -> None:
    lines = annotate([gate() for _ in range(MOST + 5)], tmp_path, tmp_path)
    assert len(lines) == MOST
    assert lines[-1] == "::error title=pytest-siren::6 more gates are broken; see the log"
    assert len(annotate([gate() for _ in range(MOST)], tmp_path, tmp_path)) == MOST


@pytest.mark.parametrize(
    ("variable", "ini", "option", "told"),
    [
        ("true", True, False, True),
        ("true", False, False, False),
        ("true", True, True, False),
        ("false", True, False, False),
    ],
)
def test_github_is_told_unless_option_or_ini_key_refuse(
    monkeypatch: pytest.MonkeyPatch, variable: str, ini: bool, option: bool, told: bool
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", variable)
    config = Mock(getini={"siren_github": ini}.get, getoption={"siren_no_github": option}.get)
    assert on_github(config) is told
