"""Agents with a conversation of their own meet the same defences as ``plain``.

The agent here knows nothing of the project but the addresses of its run.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from pytest_siren.agents.plain import PlainAgent, PlainAgentConfig
from pytest_siren.attacks.template_string import TemplateStringAttack, TemplateStringConfig
from pytest_siren.datasets.agentdojo import AgentDojoConfig, load
from pytest_siren.defences.base import Defence
from pytest_siren.defences.guard import Defences
from pytest_siren.defences.pi_detector import Detector, DetectorConfig
from pytest_siren.defences.prompting import RepeatUserPrompt
from pytest_siren.defences.spotlighting import (
    Datamarking,
    DatamarkingConfig,
    Delimiting,
    Encoding,
    EncodingConfig,
)
from pytest_siren.defences.tool_policy import ToolPolicy, ToolPolicyConfig
from pytest_siren.evaluation.reenactment import answered_calls
from pytest_siren.evaluation.run import RunOutcome
from pytest_siren.evaluation.scores import Status
from pytest_siren.evaluation.scoring import allowed_calls
from pytest_siren.models.control import ControlSource
from tests.unit.test_defences_agentdojo import ours
from tests.unit.test_serving_agentdojo import chat_agent, plans, verdicts

pytest.importorskip("agentdojo", reason="needs the extra agentdojo")

SOME = 9
"""Couples: all of one benign task."""
POLICY = ToolPolicyConfig.model_validate(
    {"rules": [{"tool": "send_money", "arguments": {"recipient": "US1330.*"}, "action": "deny"}]}
)


def classify(text: str) -> tuple[str, float]:
    """Stand in for a sequence classifier that knows the attack."""
    return "INJECTION" if "<INFORMATION>" in text else "SAFE", 0.99


ALL: dict[str, dict[str, Defence]] = {
    "repeat": {"repeat": RepeatUserPrompt()},
    "delimiting": {"delimiting": Delimiting()},
    "datamarking": {"datamarking": Datamarking(DatamarkingConfig())},
    "encoding": {"encoding": Encoding(EncodingConfig())},
    "detector": {"detector": Detector(DetectorConfig(), classify)},
    "policy": {"policy": ToolPolicy(POLICY), "repeat": RepeatUserPrompt()},
}


def seen(outcome: RunOutcome) -> tuple[Any, ...]:
    return (
        outcome.status,
        outcome.benign_score,
        outcome.attack_score,
        outcome.exposed,
        outcome.stage,
        outcome.triggered,
        ours(outcome.messages),
        [(one.call.name, one.call.args) for one in answered_calls(outcome.messages)],
        [(call.name, call.args) for call in allowed_calls(outcome.messages)],
    )


@pytest.mark.parametrize("name", ALL)
def test_a_defended_agent_behind_the_endpoint_reads_what_plain_reads(name: str) -> None:
    dataset = load(AgentDojoConfig(suite_name="banking"), Path())
    model, attack = ControlSource("hijacked"), TemplateStringAttack(TemplateStringConfig())

    def defended(agent: Any) -> Any:
        some = islice(plans(dataset, "banking", agent, model, attack), SOME)
        return (replace(one, guard=lambda task: Defences(ALL[name], task)) for one in some)

    async def both() -> tuple[dict[str, RunOutcome], dict[str, RunOutcome]]:
        expected = await verdicts(defended(PlainAgent(PlainAgentConfig())))
        async with chat_agent() as agent:
            return expected, await verdicts(defended(agent))

    expected, found = asyncio.run(both())
    assert len(expected) == SOME
    for task, outcome in expected.items():
        assert outcome.status is Status.SCORED, outcome.error
        assert (task, seen(found[task])) == (task, seen(outcome))
    hit = sum(one.attack_score == 1.0 for one in found.values())
    assert (hit == 0) == (name == "detector")
    assert any(one.triggered for one in found.values()) == (name in ("detector", "policy"))
