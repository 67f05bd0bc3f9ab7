"""Real conversations and configs for the tests of evaluators, inline datasets and attacks."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from pytest_siren.evaluation.scoring import asked_calls, final_text
from pytest_siren.evaluation.tasks import Evidence
from pytest_siren.evaluators.choice import AnyEvaluator

HOSTILE = "\x1b[31mred\x1b[0m {{7*7}} {inbox} \x00 \u202egnirts \u2028 <script>"
"""Escapes of a terminal, a template, a placeholder, a NUL, directions and markup."""

_ANY: TypeAdapter[Any] = TypeAdapter(AnyEvaluator)


def conversation(*parts: ModelResponsePart) -> Evidence:
    """Return the evidence of a run in which the model answered with each of ``parts`` in turn."""
    messages: list[ModelMessage] = [ModelRequest(parts=[UserPromptPart("go on")])]
    for index, part in enumerate(parts):
        messages.append(ModelResponse(parts=[part]))
        if index < len(parts) - 1:
            result = ToolReturnPart("a_tool", "the tool says forbidden", f"call_{index}")
            messages.append(ModelRequest(parts=[result]))
    history = tuple(messages)
    return Evidence(history, final_text(history), asked_calls(history), None, None)


def said(*texts: str) -> Evidence:
    """Return the evidence of a run in which the model said ``texts``."""
    return conversation(*map(TextPart, texts))


def called(name: str, args: str | dict[str, Any] | None = None) -> ToolCallPart:
    return ToolCallPart(name, args, tool_call_id=f"id_{name}")


def thought(text: str) -> ThinkingPart:
    return ThinkingPart(text)


def score(config: Mapping[str, Any], evidence: Evidence, base: Path | None = None) -> float:
    """Return what the evaluator of ``config`` makes of ``evidence``."""
    evaluator = _ANY.validate_python(dict(config)).build(base or Path())

    async def judge() -> float:
        result = evaluator(evidence)
        return await result if inspect.isawaitable(result) else result

    return asyncio.run(judge())


def refusals(config: Any) -> list[tuple[tuple[str | int, ...], str]]:
    """Return place and message of all that is wrong with an evaluator's config."""
    with pytest.raises(ValidationError) as caught:
        _ANY.validate_python(config)
    return [(error["loc"], error["msg"]) for error in caught.value.errors()]
