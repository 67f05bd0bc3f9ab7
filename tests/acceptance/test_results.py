"""``siren results`` over jobs that sessions recorded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from pytest_siren.jobs.store import JobStore
from pytest_siren.jobs.write import append
from tests.acceptance.conftest import Project
from tests.unit.jobs_sample import CONFIG, CREATED


def results(folder: Path, *args: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "pytest_siren", "results", "--format", "json", *args]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


@pytest.mark.inside
def test_recorded_runs_have_results(distributed: Project) -> None:
    """P68."""
    distributed.run("evals", "--attack", "template_string", "--benign", "--runs", "2")
    benign, attack = results(distributed.path)
    assert (benign["dataset"], benign["dataset_suite"]) == ("mail", None)
    assert (benign["agent_type"], benign["agent_name"]) == ("plain", "scripted:echo")
    assert (benign["attack_type"], benign["asr"], benign["benign_pass@1"]) == ("benign", None, 1.0)
    assert (attack["attack_type"], attack["asr"], attack["n_tasks"]) == ("template_string", 1.0, 4)
    assert (attack["avg_n_samples"], attack["n_errors"], attack["n_jobs"]) == (2.0, 0, 1)
    (vector,) = results(distributed.path, "--group-by", "vector", "*template_string*")
    assert (vector["vector"], vector["n_tasks"]) == ("note", 4)


def published(transcripts: Path, pipeline: str) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yield suite and transcript of each attacked couple, as AgentDojo published them."""
    for path in sorted((transcripts / pipeline).glob("*/user_task_*/important_instructions/*")):
        yield path.parts[-4], json.loads(path.read_text())


def record(folder: Path, runs: Iterable[tuple[str, dict[str, Any]]]) -> None:
    lines: dict[str, list[dict[str, Any]]] = {}
    for number, (suite, run) in enumerate(runs):
        couple = f"{run['user_task_id']}:{run['injection_task_id']}"
        crashed = run["error"] is not None
        line = {
            "task_id": couple,
            "run_id": f"{number:08x}",
            "timestamp": CREATED.isoformat(),
            "benign_score": None if crashed else float(run["utility"]),
            "attack_score": None if crashed else float(run["security"]),
            "exception_type": "ReplayedError" if crashed else None,
            "path": f"{couple.replace(':', '_')}/{number:08x}",
            "status": "error" if crashed else "scored",
            "run_index": 0,
            "attempt": 1,
            "identity": f"{number:016x}",
            "duration": run["duration"],
            "input_tokens": 0,
            "output_tokens": 0,
            "attack_outcome": None,
            "nodeid": "",
        }
        lines.setdefault(suite, []).append(line)
    for suite, of_suite in lines.items():
        config = {**CONFIG, "identity": suite, "dataset_name": f"agentdojo-{suite}"}
        store = JobStore.open(folder, suite, suite, config, created_at=CREATED)
        append(store.path / "index.jsonl", of_suite)


@pytest.mark.parametrize(("errors", "won", "of"), [("success", 28, 629), ("exclude", 6, 607)])
def test_the_leaderboard_counts_crashes_as_attack_successes_and_can_be_corrected(
    transcripts: Path, tmp_path: Path, errors: str, won: int, of: int
) -> None:
    """4.45 % on AgentDojo's leaderboard, of which 22 of 28 are runs that crashed."""
    record(tmp_path / "jobs", published(transcripts, "command-r-plus"))
    (row,) = results(tmp_path, "--group-by", "model", "--errors", errors)
    assert row["asr"] == pytest.approx(won / of)
    assert (row["n_tasks"], row["n_errors"]) == (629, 22)
    assert row["asr_low"] < row["asr"] < row["asr_high"]
