"""Prompts as plain tests with pytest-asyncio; runs in an environment of its own."""

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from openai import AsyncOpenAI


@pytest_asyncio.fixture(scope="session")
async def client() -> AsyncIterator[AsyncOpenAI]:
    """Return one client for all tests."""
    async with AsyncOpenAI() as client:
        yield client


@pytest.mark.parametrize("index", range(int(os.environ["BENCHMARK_RUNS"])))
async def test_says_when_it_is_done(client: AsyncOpenAI, index: int) -> None:
    """One request, judged by a text."""
    prompt = f"This is task {index}. Say when you are done."
    answer = await client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": prompt}]
    )
    assert "Done" in (answer.choices[0].message.content or "")
