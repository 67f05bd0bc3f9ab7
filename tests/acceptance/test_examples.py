"""The examples under ``docs/examples`` on the libraries themselves, distributed and gated."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.conftest import Project
from tests.acceptance.test_command_agents import of_runs

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = DOCS / "examples"
GATES = ("--gate", "utility >= 1", "--gate", "asr >= 1", "--gate-on=point")


def example(project: Project, name: str) -> int:
    """Copy an example into the project; return how many eval files it has."""
    shutil.rmtree(project.path / "evals")
    (project.path / "conftest.py").unlink()
    shutil.copytree(EXAMPLES / name, project.path, dirs_exist_ok=True)
    return len(list(project.path.glob("evals/eval_*.yaml")))


def check(project: Project, files: int) -> None:
    """Run an example with two workers and gates, then with ``--lf`` from its records."""
    both = ("--attack=direct", "--benign")
    done = project.run("evals", "-n2", *both, *GATES)
    assert done.ret == 0, done.stdout.str()
    assert done.stdout.str().count("HELD") == 2
    found = project.results()
    assert len(found) == 2 * files
    assert {one["benign_score"] for one in found} == {1.0}
    assert {one["exposed"] for one in found} == {None, True}
    done = project.run("--lf")
    done.stdout.fnmatch_lines([f"recorded: {2 * files} of {2 * files} runs, not executed again"])
    assert of_runs() == []


@pytest.mark.slow
def test_frameworks_are_evaluated_as_they_are(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    check(project, example(project, "agents"))


@pytest.mark.nightly
@pytest.mark.slow
def test_a_program_for_node_uses_the_official_clients(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    files = example(project, "node")
    subprocess.run(["npm", "install", "--silent", "--no-fund"], cwd=project.path, check=True)
    check(project, files)


def test_the_page_shows_the_examples() -> None:
    page = (DOCS / "how-to/own_agent.md").read_text()
    shown = dict(re.findall(r"^```\w+ file=evals/(\S+)\n(.*?)^```$", page, re.M | re.S))
    names = ("graph.py", "sdk.py", "loop.py", "shop.yaml", "shoptools.py", "kettles.py")
    for name in names:
        text = (EXAMPLES / "agents/evals" / name).read_text()
        assert shown[name] == text, name
        assert len(text.splitlines()) <= 25
