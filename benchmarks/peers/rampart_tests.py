"""Prompts as RAMPART probes; runs in RAMPART's own environment."""

import os
from typing import Any, Self

import pytest
from openai import AsyncOpenAI
from rampart import AppManifest, ObservabilityLevel, Probes, Request, Response
from rampart.evaluators import ResponseContains


class Agent:
    """A model without tools, as an adapter and as each of its sessions."""

    manifest = AppManifest(name="one-call")
    observability_profile = ObservabilityLevel.RESPONSE_ONLY

    def __init__(self) -> None:
        self.client = AsyncOpenAI()

    async def create_session_async(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: Any) -> None:
        """The client is kept for the next session."""

    async def send_async(self, request: Request) -> Response:
        answer = await self.client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": request.prompt or ""}]
        )
        return Response(text=answer.choices[0].message.content or "")


@pytest.fixture(scope="session")
def agent() -> Agent:
    """Return one agent for all tests."""
    return Agent()


@pytest.mark.parametrize("index", range(int(os.environ["BENCHMARK_RUNS"])))
async def test_says_when_it_is_done(agent: Agent, index: int) -> None:
    """One request, judged by a text."""
    prompt = f"This is task {index}. Say when you are done."
    probe = Probes.behavior(prompt=prompt, evaluator=ResponseContains("Done"))
    result = await probe.execute_async(adapter=agent)
    assert result.safe
