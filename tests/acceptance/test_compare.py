"""Published transcripts of two models, played again and compared pair by pair."""

from __future__ import annotations

import io
import json
import shutil
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from pytest_siren.cli.main import main
from tests.acceptance.conftest import Project

pytestmark = pytest.mark.inside

EVALS = Path(__file__).parents[2] / "evals"
LEFT, RIGHT = "gpt-4o-2024-05-13", "command-r-plus"


def replayed(project: Project, transcripts: Path, *suites: str) -> None:
    """Make a job of each suite and model; the names begin as the models are called."""
    pytest.importorskip("agentdojo", reason="needs the extra agentdojo")
    (project.path / "evals" / "eval_mail.yaml").unlink()
    for suite in suites:
        shutil.copy(EVALS / f"eval_agentdojo_{suite}.yaml", project.path / "evals")
    models = ",".join(f"replay:{transcripts / pipeline}" for pipeline in (LEFT, RIGHT))
    version = "--set=dataset.config.version=v1"
    project.run("evals", "-q", version, f"--model={models}", "--attack=recorded")


def compared(project: Project, *args: str) -> tuple[int, str]:
    out = io.StringIO()
    with redirect_stdout(out):
        code = main(["compare", *args])
    return code, out.getvalue().rstrip("\n")


def test_two_models_are_compared_with_crashed_runs_set_apart(
    project: Project, transcripts: Path
) -> None:
    replayed(project, transcripts, "banking")
    code, text = compared(project, f"*{LEFT}*", f"*{RIGHT}*", "--format=json")
    assert code == 1
    found = json.loads(text)
    [utility, asr] = found["comparison"]["measures"]
    assert (utility["measure"], asr["measure"]) == ("utility_under_attack", "asr")
    overlap = asr["overlap"]
    assert overlap["pairs"] + overlap["left_out"] == 144
    assert overlap["left_out"] == overlap["unscored_runs"]["errors"] == 2
    assert overlap["only_baseline"]["runs"] == overlap["only_runs"]["runs"] == 0
    [test] = asr["tests"]
    assert test["test"] == "t"
    assert test["difference"]["high"] < 0


@pytest.mark.slow
@pytest.mark.nightly
def test_all_629_couples_are_compared(project: Project, transcripts: Path) -> None:
    project.args = ["-n2"]
    replayed(project, transcripts, "banking", "slack", "travel", "workspace")
    code, text = compared(project, f"*{LEFT}*", f"*{RIGHT}*")
    assert code == 1
    lines = text.splitlines()
    assert "asr: 607 pairs scored on both sides" in lines
    assert "  set apart: 22 pairs (B: 22 in error)" in lines
    assert [line.split()[0] for line in lines if line.startswith("  dataset=")] == [
        f"dataset=agentdojo-{suite}" for suite in ("banking", "slack", "travel", "workspace")
    ] * 2
    assert lines[-1].startswith("B is worse: utility_under_attack ")
