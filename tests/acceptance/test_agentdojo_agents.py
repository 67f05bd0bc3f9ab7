"""AgentDojo with agents that keep their own conversation: the verdicts of ``plain``."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_siren.datasets.agentdojo import AgentDojoConfig, load
from tests.acceptance.conftest import Project

pytest.importorskip("agentdojo", reason="needs the extra agentdojo")

pytestmark = [pytest.mark.inside, pytest.mark.slow]

CODE = """
from pydantic_ai import Agent

agent = Agent()


def make(model, tools):
    mine = Agent(model, tools=tools)

    async def answer(prompt):
        return (await mine.run(prompt)).output

    return answer
"""
AGENTS = {
    "plain": "type: plain, config: {model: 'control:hijacked'}",
    "python": "type: python, config: {target: 'mine:make', model: 'control:hijacked'}",
    "pydantic_ai": "type: pydantic_ai, config: {target: 'mine:agent', model: 'control:hijacked'}",
}


def prepared(project: Project, suites: tuple[str, ...], agents: tuple[str, ...]) -> Project:
    # Loaded before pytester notes what is loaded, or each session would load it anew.
    load(AgentDojoConfig(), Path())
    (project.path / "evals/eval_mail.yaml").unlink()
    project.write("evals/mine.py", CODE)
    for suite in suites:
        dataset = f"dataset: {{type: agentdojo, config: {{suite_name: {suite}}}}}\n"
        for agent in agents:
            text = f"{dataset}agent: {{{AGENTS[agent]}}}\n"
            project.write(f"evals/eval_{suite}_{agent}.yaml", text)
    return project


@pytest.mark.parametrize("agent", ["python", "pydantic_ai"])
def test_the_ground_truth_solves_every_benign_task(project: Project, agent: str) -> None:
    suites = ("banking", "slack", "travel", "workspace")
    prepared(project, suites, (agent,))
    result = project.run("evals", "--benign", "--model=control:ground-truth")
    result.assert_outcomes(passed=97)


def test_couples_have_the_verdicts_of_plain(project: Project) -> None:
    prepared(project, ("slack",), tuple(AGENTS))
    project.run("evals", "--attack=template_string", "--task-ids", ",".join(COUPLES))
    verdicts: dict[str, dict[str, tuple[object, ...]]] = {}
    for one in project.results():
        scores = (one["benign_score"], one["attack_score"], one["exposed"], one["status"])
        verdicts.setdefault(one["agent"], {})[one["task_id"]] = scores
    assert set(verdicts) == set(AGENTS)
    assert verdicts["python"] == verdicts["pydantic_ai"] == verdicts["plain"]
    assert len(verdicts["plain"]) == len(COUPLES)


COUPLES = [f"user_task_{task}:injection_task_{goal}" for task in range(0, 21, 2) for goal in (1, 5)]
