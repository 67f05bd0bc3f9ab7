"""Every published transcript scores as AgentDojo's own runtime and evaluators score it."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml
from pydantic_ai.usage import UsageLimits

from pytest_siren.agents.plain import PlainAgent, PlainAgentConfig
from pytest_siren.attacks.recorded import RecordedAttack, RecordedAttackConfig
from pytest_siren.datasets.agentdojo import AgentDojoConfig, load
from pytest_siren.evaluation.models import RunContext
from pytest_siren.evaluation.run import RunOutcome, RunPlan, execute
from pytest_siren.evaluation.scores import Status
from pytest_siren.models.replay import ReplaySource

pytest.importorskip("agentdojo", reason="needs the extra agentdojo")

SUITES = ("workspace", "banking", "slack", "travel")
EXPECTED = {
    # Utility and attack successes of the couples, utility of the benign tasks, errors of couples.
    "gpt-4o-2024-05-13": (320, 306, 68, 0),
    # Two of the 22 crashed runs would pass their utility evaluator without having done anything;
    # counting them gives 159.
    "command-r-plus": (157, 6, 23, 22),
}


@pytest.fixture(scope="module")
def judged(transcripts: Path) -> dict[tuple[str, str, str], tuple[RunOutcome, dict[str, Any]]]:
    """Map pipeline, suite and task id to our outcome and the published transcript."""
    return asyncio.run(_replay_all(transcripts))


async def _replay_all(
    folder: Path,
) -> dict[tuple[str, str, str], tuple[RunOutcome, dict[str, Any]]]:
    agent = PlainAgent(PlainAgentConfig())
    attack = RecordedAttack(RecordedAttackConfig())
    outcomes = {}
    for pipeline in EXPECTED:
        source = ReplaySource(str(folder / pipeline), folder)
        for suite in SUITES:
            dataset = load(AgentDojoConfig(suite_name=suite, version="v1"), folder)
            pairs = [(task, None) for task in dataset.benign_tasks]
            pairs += [(couple.benign, couple.malicious) for couple in dataset.couples]
            for benign, malicious in pairs:
                task_id = benign.id if malicious is None else f"{benign.id}:{malicious.id}"
                used = None if malicious is None else attack
                context = RunContext(
                    dataset=dataset.name,
                    suite=suite,
                    task_id=task_id,
                    benign=benign,
                    malicious=malicious,
                    attack="recorded" if used else None,
                    run_index=0,
                )
                plan = RunPlan(
                    context, dataset, agent, used, source, UsageLimits(request_limit=None)
                )
                injection = malicious.id if malicious else "none"
                place = "important_instructions" if malicious else "none"
                log = folder / pipeline / suite / benign.id / place / f"{injection}.json"
                outcomes[pipeline, suite, task_id] = (
                    await execute(plan),
                    json.loads(log.read_text()),
                )
    return outcomes


@pytest.mark.parametrize("pipeline", EXPECTED)
def test_the_published_rates_are_reproduced(judged: Any, pipeline: str) -> None:
    counts: Counter[str] = Counter()
    for (of, _, task_id), (outcome, _) in judged.items():
        if of == pipeline and ":" in task_id:
            counts["utility"] += outcome.benign_score == 1.0
            counts["attacks"] += outcome.attack_score == 1.0
            counts["errors"] += outcome.status is Status.ERROR
        elif of == pipeline:
            counts["benign"] += outcome.benign_score == 1.0
    found = (counts["utility"], counts["attacks"], counts["benign"], counts["errors"])
    assert found == EXPECTED[pipeline]


def test_a_crashed_recording_replays_as_its_own_error_and_has_no_score(judged: Any) -> None:
    crashed = [(o, log) for o, log in judged.values() if log["error"] is not None]
    assert len(crashed) == 23
    for outcome, log in crashed:
        assert outcome.status is Status.ERROR
        assert outcome.error.type == "RecordedError"
        assert outcome.error.message == log["error"]
        assert outcome.benign_score is None
        assert outcome.attack_score is None


@pytest.mark.parametrize(
    "suite",
    [
        *("banking", "slack"),
        *(pytest.param(suite, marks=pytest.mark.nightly) for suite in ("workspace", "travel")),
    ],
)
def test_every_verdict_is_agentdojos_own(judged: Any, suite: str) -> None:
    compared = 0
    for (pipeline, of, task_id), (outcome, log) in judged.items():
        if of != suite or log["error"] is not None:
            continue
        utility, security = _agentdojo_verdict(log)
        assert (pipeline, task_id, outcome.benign_score, outcome.attack_score) == (
            pipeline,
            task_id,
            utility,
            security,
        )
        compared += 1
    assert compared == {"workspace": 539, "banking": 318, "slack": 252, "travel": 320}[suite]


def _agentdojo_verdict(log: dict[str, Any]) -> tuple[float, float | None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from agentdojo.agent_pipeline.agent_pipeline import AgentPipeline
        from agentdojo.agent_pipeline.tool_execution import ToolsExecutionLoop, ToolsExecutor
        from agentdojo.logging import OutputLogger
        from agentdojo.task_suite.load_suites import get_suite

        suite = get_suite("v1", log["suite_name"])
        injection = log["injection_task_id"]
        malicious = None if injection in (None, "none") else suite.injection_tasks[injection]
        answers = _recorded_answers(log["messages"])
        pipeline = AgentPipeline([answers, ToolsExecutionLoop([ToolsExecutor(), answers])])
        pipeline.name = "replay"
        with OutputLogger(None), patch("yaml.safe_load", _load_quickly):
            utility, security = suite.run_task_with_pipeline(
                pipeline, suite.user_tasks[log["user_task_id"]], malicious, log["injections"]
            )
    return float(utility), None if malicious is None else float(security)


def _load_quickly(text: str) -> Any:
    """Read as ``yaml.safe_load`` does, by libyaml: AgentDojo reads 150 kB anew for every task."""
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _recorded_answers(messages: Sequence[dict[str, Any]]) -> Any:
    from agentdojo.agent_pipeline.base_pipeline_element import BasePipelineElement
    from agentdojo.functions_runtime import FunctionCall
    from agentdojo.types import text_content_block_from_string

    class RecordedAnswers(BasePipelineElement):
        def __init__(self) -> None:
            self._left = iter([m for m in messages if m["role"] == "assistant"])

        def query(self, query, runtime, env, messages=(), extra_args=None):  # type: ignore[no-untyped-def]
            recorded = next(self._left)
            text, calls = recorded["content"], recorded["tool_calls"]
            answer = {
                "role": "assistant",
                "content": None if text is None else [text_content_block_from_string(text)],
                "tool_calls": [FunctionCall(**call) for call in calls] if calls else None,
            }
            return query, runtime, env, [*messages, answer], extra_args

    return RecordedAnswers()
