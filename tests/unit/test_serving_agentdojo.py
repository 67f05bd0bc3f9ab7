"""AgentDojo through the served tools and the served endpoint: the verdicts of ``plain``.

The agents here know nothing of the project but the addresses of their run: the MCP library's client
calls the tools, OpenAI's own client asks the model.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from openai import AsyncOpenAI
from pydantic_ai.usage import UsageLimits

from pytest_siren.agents.addresses import Addresses
from pytest_siren.agents.black_box import BlackBox, BlackBoxConfig
from pytest_siren.agents.plain import PlainAgent, PlainAgentConfig
from pytest_siren.attacks.recorded import RecordedAttack, RecordedAttackConfig
from pytest_siren.attacks.template_string import TemplateStringAttack, TemplateStringConfig
from pytest_siren.datasets.agentdojo import AgentDojoConfig, load
from pytest_siren.evaluation.components import SHARED, SharedParts
from pytest_siren.evaluation.models import ModelSource, RunContext
from pytest_siren.evaluation.run import RunOutcome, RunPlan, execute
from pytest_siren.evaluation.scores import Status
from pytest_siren.evaluation.tasks import Dataset
from pytest_siren.evaluation.world import World
from pytest_siren.models.control import ControlSource
from pytest_siren.models.replay import ReplaySource
from pytest_siren.serving.shared import SharedServer, serve

pytestmark = pytest.mark.usefixtures("few_certificates")

pytest.importorskip("agentdojo", reason="needs the extra agentdojo")

TASKS = {"workspace": 40, "banking": 16, "slack": 21, "travel": 20}
COUPLES = {"banking": 144, "slack": 105, "workspace": 240, "travel": 140}
_AT_ONCE = 8


class SolvingAgent(BlackBox):
    """Makes the calls of the task's known solution, over MCP."""

    spoken_name = "the solution"

    async def answer(self, world: World, addresses: Addresses) -> str:
        truth = world.stage.task.ground_truth
        assert truth is not None
        async with serve(world) as served, Client(served.mcp_url) as tools:
            for call in truth.calls(world.state.env_state):
                await tools.call_tool(call.name, dict(call.args))
        return truth.output


class ChatAgent(BlackBox):
    """A loop on chat completions whose tools are an MCP server's."""

    spoken_name = "the chat"

    def __init__(self, openai: AsyncOpenAI) -> None:
        super().__init__(BlackBoxConfig())
        self._openai = openai

    async def answer(self, world: World, addresses: Addresses) -> str:
        async with serve(world) as served, Client(served.mcp_url) as tools:
            client = self._openai.with_options(base_url=served.base_url)
            return await converse(client, tools, world.system_prompt, world.prompt)


async def converse(client: AsyncOpenAI, tools: Client, system: str | None, prompt: str) -> str:
    offered: Any = [
        {"type": "function", "function": {"name": tool.name, "description": tool.description,
                                          "parameters": tool.input_schema}}
        for tool in (await tools.list_tools()).tools
    ]  # fmt: skip
    messages: list[Any] = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": prompt})
    while True:
        answer = await client.chat.completions.create(
            model="gpt-4o", messages=messages, tools=offered
        )
        message = answer.choices[0].message
        if not message.tool_calls:
            return message.content or ""
        messages.append(message)
        for call in message.tool_calls:
            assert call.type == "function"
            arguments = json.loads(call.function.arguments)
            result = await tools.call_tool(call.function.name, arguments)
            text = result.content[0].text  # type: ignore[union-attr]
            messages.append({"role": "tool", "tool_call_id": call.id, "content": text})


@asynccontextmanager
async def chat_agent() -> AsyncIterator[ChatAgent]:
    shared = SharedParts()
    SHARED.set(shared)
    async with AsyncOpenAI(base_url="http://unused", api_key="unused") as openai:
        yield ChatAgent(openai)
    await shared.get(SharedServer, "the server").aclose()


def plans(
    dataset: Dataset, suite: str, agent: Any, model: ModelSource, attack: Any
) -> Iterator[RunPlan]:
    """Yield a run for each benign task; with an attack, one for each couple."""
    couples = [(one.benign, one.malicious) for one in dataset.couples]
    tasks = [(one, None) for one in dataset.benign_tasks]
    for benign, malicious in couples if attack else tasks:
        context = RunContext(
            dataset=dataset.name,
            suite=suite,
            task_id=f"{benign.id}:{malicious.id}" if malicious else benign.id,
            benign=benign,
            malicious=malicious,
            attack="recorded" if attack else None,
            run_index=0,
        )
        yield RunPlan(context, dataset, agent, attack, model, UsageLimits(request_limit=None))


async def verdicts(all_plans: Iterator[RunPlan]) -> dict[str, RunOutcome]:
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(plan: RunPlan) -> tuple[str, RunOutcome]:
        async with places:
            return plan.context.task_id, await execute(plan)

    return dict(await asyncio.gather(*map(one, all_plans)))


def _seen(outcome: RunOutcome) -> tuple[Any, ...]:
    return (
        outcome.status,
        outcome.benign_score,
        outcome.attack_score,
        outcome.output,
        outcome.exposed,
        outcome.tool_calls,
        len(outcome.messages),
        outcome.error and outcome.error.message,
    )


def compare(suite: str, version: str, model: ModelSource, attack: Any) -> dict[str, RunOutcome]:
    """Return what the served runs came to, once each is what it is with the agent ``plain``."""
    dataset = load(AgentDojoConfig(suite_name=suite, version=version), Path())

    async def both() -> tuple[dict[str, RunOutcome], dict[str, RunOutcome]]:
        plain = PlainAgent(PlainAgentConfig())
        expected = await verdicts(plans(dataset, suite, plain, model, attack))
        async with chat_agent() as agent:
            return expected, await verdicts(plans(dataset, suite, agent, model, attack))

    expected, found = asyncio.run(both())
    for task, outcome in expected.items():
        assert (task, _seen(found[task])) == (task, _seen(outcome))
    return found


@pytest.mark.parametrize("suite", TASKS)
def test_the_known_solution_over_mcp_solves_every_task(suite: str) -> None:
    dataset = load(AgentDojoConfig(suite_name=suite), Path())
    agent, model = SolvingAgent(BlackBoxConfig()), ControlSource("ground-truth")

    async def solve() -> dict[str, RunOutcome]:
        shared = SharedParts()
        SHARED.set(shared)
        found = await verdicts(plans(dataset, suite, agent, model, None))
        await shared.get(SharedServer, "the server").aclose()
        return found

    found = asyncio.run(solve())
    assert {
        task: outcome.error for task, outcome in found.items() if outcome.benign_score != 1.0
    } == {}
    assert len(found) == TASKS[suite]


_SUITES = [
    "slack",
    *(pytest.param(one, marks=pytest.mark.nightly) for one in ("banking", "workspace", "travel")),
]


@pytest.mark.slow
@pytest.mark.parametrize("suite", _SUITES)
def test_a_hijacked_model_behind_the_endpoint_has_the_verdicts_of_plain(suite: str) -> None:
    attack = TemplateStringAttack(TemplateStringConfig())
    found = compare(suite, "v1", ControlSource("hijacked"), attack)
    assert len(found) == COUPLES[suite]
    assert any(outcome.attack_score == 1.0 for outcome in found.values())


@pytest.mark.slow
@pytest.mark.parametrize("suite", _SUITES)
def test_gpt_4o_behind_the_endpoint_has_the_verdicts_of_plain(
    suite: str, transcripts: Path
) -> None:
    model = ReplaySource(str(transcripts / "gpt-4o-2024-05-13"), transcripts)
    found = compare(suite, "v1", model, RecordedAttack(RecordedAttackConfig()))
    assert len(found) == COUPLES[suite]
    assert all(outcome.status is Status.SCORED for outcome in found.values())
