"""Good answers of four APIs, and a way to ask each of them what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic_ai.messages import ModelResponse

from pytest_siren.models.api import ApiModelSource
from pytest_siren.models.ratelimit.limiter import RateLimiters
from pytest_siren.models.ratelimit.retrying_model import RetryingModel
from tests.unit.limits_server import GOOD, Answer, ask, bound, serving

CHAT, RESPONSES, MESSAGES, GENERATE = NAMES = (
    "openai-chat:m",
    "openai-responses:m",
    "anthropic:claude-x",
    "google:gemini-x",
)
GATEWAYS = ("openrouter:a/m", "deepseek:m", "ollama:m")
"""Providers that speak OpenAI's chat API."""

GOODS: dict[str, dict[str, Any]] = {
    CHAT: GOOD,
    RESPONSES: {
        "id": "r",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "status": "completed",
        "error": None,
        "output": [
            {
                "type": "message",
                "id": "i",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "Done.", "annotations": []}],
            }
        ],
        "usage": {
            "input_tokens": 100,
            "output_tokens": 20,
            "total_tokens": 120,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    },
    MESSAGES: {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [{"type": "text", "text": "Done."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 100, "output_tokens": 20},
    },
    GENERATE: {
        "candidates": [
            {
                "content": {"role": "model", "parts": [{"text": "Done."}]},
                "finishReason": "STOP",
                "index": 0,
            }
        ],
        "usageMetadata": {
            "promptTokenCount": 100,
            "candidatesTokenCount": 20,
            "totalTokenCount": 120,
        },
        "modelVersion": "gemini-x",
    },
}
ANSWER_KEY = {CHAT: "choices", RESPONSES: "output", MESSAGES: "content", GENERATE: "candidates"}
for _name in GATEWAYS:
    GOODS[_name] = {**GOOD, "provider": "x"}
    ANSWER_KEY[_name] = "choices"


@dataclass(frozen=True)
class Asked:
    """What one request came to."""

    requests: int
    answer: ModelResponse | None
    error: Exception | None
    billed: list[ModelResponse]
    retries: list[str]

    @property
    def text(self) -> str:
        assert self.answer is not None, self.error
        return self.answer.text or ""

    @property
    def message(self) -> str:
        return str(self.error)


def asked(
    name: str,
    answer: Callable[[int], Answer] | Answer,
    monkeypatch: pytest.MonkeyPatch,
    *,
    prove: bool = False,
) -> Asked:
    """Ask the model ``name`` once, without waiting between tries; ``prove`` it by a good one."""
    pytest.importorskip("openai")
    if name == MESSAGES:
        pytest.importorskip("anthropic")
    if name == GENERATE:
        pytest.importorskip("google.genai")
    where = "pytest_siren.models.ratelimit.retrying_model"
    monkeypatch.setattr(f"{where}.after_transient", lambda tries, random: 0.0)
    monkeypatch.setattr(
        f"{where}.after_refusal", lambda refusals, advised, random: 0.0 if refusals < 4 else 1e9
    )

    def scripted(number: int) -> Answer:
        if prove and number == 0:
            return Answer(200, GOODS[name])
        return answer(number - prove) if callable(answer) else answer

    async def run() -> Asked:
        async with serving(scripted) as server:
            lead_to(server.url, monkeypatch)
            source = ApiModelSource(name)
            source.use_rate_limiter(RateLimiters(None, 4))
            try:
                if prove:
                    await ask(await bound(source))
                return await _ask(await bound(source), lambda: len(server.arrivals) - prove)
            finally:
                await source.aclose()

    return asyncio.run(run())


def lead_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = url.removesuffix("/v1")
    for variable, value in (
        *(("OPENAI_BASE_URL", url), ("OLLAMA_BASE_URL", url), ("OPENROUTER_BASE_URL", url)),
        *(("ANTHROPIC_BASE_URL", root), ("GOOGLE_GEMINI_BASE_URL", root)),
    ):
        monkeypatch.setenv(variable, value)
    for provider in ("OPENAI", "ANTHROPIC", "GOOGLE", "OPENROUTER", "DEEPSEEK"):
        monkeypatch.setenv(f"{provider}_API_KEY", "key")
    # Some providers of OpenAI's API have an address that no variable changes.
    with suppress(ImportError):
        from pydantic_ai.providers.deepseek import DeepSeekProvider
        from pydantic_ai.providers.openrouter import OpenRouterProvider

        for provider_class in (DeepSeekProvider, OpenRouterProvider):
            monkeypatch.setattr(provider_class, "base_url", property(lambda provider: url))


async def _ask(model: Any, requests: Callable[[], int]) -> Asked:
    assert isinstance(model, RetryingModel)
    answer, error = None, None
    try:
        answer = await ask(model)
    except Exception as raised:  # noqa: BLE001 - what the tests look at
        error = raised
    retries = [retry.reason for retry in model.retries]
    return Asked(requests(), answer, error, list(model.take_billed()), retries)
