"""The workflows that the documentation offers: valid YAML, and options that exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "ci.md"
_BLOCK = re.compile(r"^```yaml file=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def files() -> dict[str, Any]:
    """Return the files that the page offers."""
    return {name: yaml.safe_load(text) for name, text in _BLOCK.findall(PAGE.read_text())}


def pytest_commands(value: Any) -> list[list[str]]:
    """Return every command within ``value`` that begins with ``pytest``, split into words."""
    if isinstance(value, dict):
        return [found for one in value.values() for found in pytest_commands(one)]
    if isinstance(value, list):
        return [found for one in value for found in pytest_commands(one)]
    lines = value.splitlines() if isinstance(value, str) else []
    return [shlex.split(line) for line in lines if line.startswith("pytest ")]


@pytest.fixture(scope="module")
def known_options() -> set[str]:
    command = [sys.executable, "-m", "pytest", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    return set(re.findall(r"(?<![\w-])--?[\w-]+", done.stdout))


def test_both_systems_have_a_file() -> None:
    assert files().keys() == {".github/workflows/evals.yml", ".gitlab-ci.yml"}
    assert len(pytest_commands(files())) == 2


def test_every_option_of_pytest_exists(known_options: set[str]) -> None:
    assert "--no-such-option" not in known_options
    for command in pytest_commands(files()):
        used = {word.partition("=")[0] for word in command if word.startswith("-")}
        assert {"--gate", "--siren-report", "--junit-xml", "--lf", "-n"} <= used
        assert used <= known_options


def test_what_the_github_workflow_uploads_is_what_pytest_writes() -> None:
    workflow = files()[".github/workflows/evals.yml"]
    # YAML 1.1 reads the key ``on`` as true.
    assert workflow.keys() >= {"name", True, "permissions", "jobs"}
    assert workflow["permissions"]["security-events"] == "write"
    steps = workflow["jobs"]["evals"]["steps"]
    assert all(step.keys() <= {"uses", "run", "with", "if"} for step in steps)
    uses = {step["uses"].partition("@")[0]: step for step in steps if "uses" in step}
    (command,) = pytest_commands(steps)
    upload = uses["github/codeql-action/upload-sarif"]
    assert upload["with"]["sarif_file"] in command
    kept = uses["actions/upload-artifact"]["with"]["path"].split()
    assert f"--junit-xml={kept[1]}" in command
    assert kept[2] in command
    save, restore = uses["actions/cache/save"], uses["actions/cache/restore"]
    assert save["with"]["key"] == restore["with"]["key"]
    assert save["with"]["key"].startswith(restore["with"]["restore-keys"])
    after = steps[[step.get("run", "").startswith("pytest") for step in steps].index(True) + 1 :]
    assert all(step["if"].startswith("always()") for step in after)


def test_the_gitlab_job_keeps_its_artifacts_for_a_while() -> None:
    job = files()[".gitlab-ci.yml"]["evals"]
    (command,) = pytest_commands(job["script"])
    assert f"--junit-xml={job['artifacts']['reports']['junit']}" in command
    assert job["artifacts"]["when"] == job["cache"]["when"] == "always"
    assert re.fullmatch(r"\d+ weeks?", job["artifacts"]["expire_in"])
