"""Code of the project that eval files name: in the root folder, without ``pythonpath``."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.acceptance.conftest import Project

EVAL = """
dataset:
  type: inline
  config:
    name: support
    tools: [supportbot.tools:search]
    tasks:
      - id: ask
        prompt: "Say hello"
        evaluators: {searched: {type: tool_called, name: search}}
        ground_truth: {calls: [{name: search}], output: hello}
agent: {type: plain, config: {model: "control:ground-truth"}}
"""


def identity_and_sources(job: Path) -> tuple[str, list[str]]:
    config = yaml.safe_load((job / "config.yaml").read_text())
    return config["identity"], list(config["sources"])


@pytest.mark.inside
def test_a_package_in_the_root_folder_is_found(project: Project) -> None:
    # With a conftest.py in it, pytest itself would put the root folder on the path.
    (project.path / "conftest.py").unlink()
    project.write("supportbot/__init__.py", "")
    project.write("supportbot/words.py", "FOUND = 'found'\n")
    tools = "def search() -> str:\n    '''Search.'''\n    from supportbot import words\n"
    project.write("evals/eval_support.yaml", EVAL)
    for ending in ("", " + '!'"):
        project.write("supportbot/tools.py", f"{tools}    return words.FOUND{ending}\n")
        result = project.run("evals/eval_support.yaml")
        result.assert_outcomes(passed=1)
    # What the tool does belongs to the identity of the job.
    found = [identity_and_sources(job) for job in project.jobs()]
    assert [sources for _, sources in found] == [["../supportbot/tools.py"]] * 2
    assert len({identity for identity, _ in found}) == 2


@pytest.mark.inside
def test_what_is_nowhere_says_where_it_was_looked_for(project: Project) -> None:
    project.write("evals/eval_support.yaml", EVAL.replace("supportbot.", "nosuchbot."))
    result = project.run("evals/eval_support.yaml")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "nor in the root folder of the project" in str(result.stdout)


@pytest.mark.inside
def test_validate_knows_the_components_of_conftest(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pytest_siren.cli.main import main

    monkeypatch.chdir(project.path)
    assert main(["config", "validate", "evals/eval_mail.yaml"]) == 0, capsys.readouterr().out
