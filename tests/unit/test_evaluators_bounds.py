"""Evaluators that would work for ever on what a model wrote."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from pytest_siren.evaluators import matching as bounds
from pytest_siren.evaluators.choice import AnyEvaluator
from pytest_siren.evaluators.matching import EvaluationTimeoutError
from tests.unit.inline_sample import called, conversation, said, score

_SLOW = "(x+x+)+y"
_TEXT = "x" * 5_000


def schema(**keys: Any) -> dict[str, Any]:
    return {"type": "json_schema", "schema": keys}


def tree(depth: int, **leaf: Any) -> dict[str, Any]:
    """Return a schema that asks ``leaf`` ``2 ** depth`` times."""
    names = [f"n{level}" for level in range(depth)]
    after = [*names[1:], "leaf"]
    branches = {
        name: {"allOf": [{"$ref": f"#/$defs/{then}"}, {"$ref": f"#/$defs/{then}"}]}
        for name, then in zip(names, after, strict=True)
    }
    return schema(**{"$ref": "#/$defs/n0", "$defs": {**branches, "leaf": leaf}})


def text() -> Any:
    return said(_TEXT)


def string() -> Any:
    return said(json.dumps(_TEXT))


def key() -> Any:
    return said(json.dumps({_TEXT: 1}))


SLOW: list[tuple[dict[str, Any], Callable[[], Any]]] = [
    ({"type": "regex", "pattern": _SLOW}, text),
    (
        {"type": "tool_called", "name": "search", "arguments": {"q": {"regex": _SLOW}}},
        lambda: conversation(called("search", {"q": _TEXT})),
    ),
    (schema(pattern=_SLOW), string),
    (schema(patternProperties={_SLOW: {}}), key),
    (schema(patternProperties={_SLOW: {}}, additionalProperties=False), key),
    (schema(propertyNames={"pattern": _SLOW}), key),
    (
        schema(allOf=[{"patternProperties": {_SLOW: {}}}], unevaluatedProperties=False),
        key,
    ),
    (tree(30), string),
    (schema(**tree(30)["schema"], unevaluatedProperties=False), key),
]


@pytest.mark.parametrize(("config", "evidence"), SLOW, ids=range(len(SLOW)))
def test_what_takes_too_long_is_an_error(
    config: dict[str, Any], evidence: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "LONGEST", 0.2)
    message = f"^the evaluator {config['type']} took longer than 0.2 s on what the model wrote$"
    with pytest.raises(EvaluationTimeoutError, match=message):
        score(config, evidence())


def test_other_runs_go_on_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "LONGEST", 0.5)
    config = TypeAdapter[Any](AnyEvaluator).validate_python({"type": "regex", "pattern": _SLOW})
    evaluator = config.build(Path())

    async def count() -> int:
        turns = 0
        waiting = asyncio.ensure_future(evaluator(said(_TEXT)))
        while not waiting.done():
            await asyncio.sleep(0)
            turns += 1
        assert isinstance(waiting.exception(), EvaluationTimeoutError)
        return turns

    assert asyncio.run(count()) > 50


@pytest.mark.parametrize(
    ("config", "output", "expected"),
    [
        (schema(pattern="^a+$"), '"aaa"', 1.0),
        (schema(pattern="^a+$"), '"aab"', 0.0),
        (schema(patternProperties={"^n": {"type": "number"}}), '{"n1": 2}', 1.0),
        (schema(patternProperties={"^n": {"type": "number"}}), '{"n1": "2"}', 0.0),
        (schema(patternProperties={"^n": {}}, additionalProperties=False), '{"n1": 2}', 1.0),
        (schema(patternProperties={"^n": {}}, additionalProperties=False), '{"m1": 2}', 0.0),
        (
            schema(allOf=[{"patternProperties": {"^n": {}}}], unevaluatedProperties=False),
            '{"n1": 2}',
            1.0,
        ),
        (
            schema(allOf=[{"patternProperties": {"^n": {}}}], unevaluatedProperties=False),
            '{"m1": 2}',
            0.0,
        ),
        (schema(uniqueItems=True), '[1, true, "1", [1], {"a": 1}, {"a": true}, null]', 1.0),
        (schema(uniqueItems=True), "[1, 1.0]", 0.0),
        (schema(uniqueItems=True), '[{"a": [1], "b": 2}, {"b": 2, "a": [1]}]', 0.0),
        (schema(uniqueItems=False), "[1, 1]", 1.0),
        (schema(multipleOf=2), "1e999", 0.0),
        (schema(multipleOf=0.5), "1e999", 0.0),
        (tree(3), '"x"', 1.0),
    ],
)
def test_bounded_keywords_judge_as_jsonschema_does(
    config: dict[str, Any], output: str, expected: float
) -> None:
    assert score(config, said(output)) == expected


@pytest.mark.parametrize(
    ("config", "output", "expected"),
    [
        (schema(uniqueItems=True), json.dumps([{"a": number} for number in range(60_000)]), 1.0),
        (schema(uniqueItems=True), "[" * 500_000, 0.0),
        (schema(), "```\n" * 250_000, 0.0),
        (schema(type="integer"), "1" * 1_000_000, 0.0),
        ({"type": "contains", "value": "a" * 1000 + "b"}, "a" * 1_000_000, 0.0),
        ({"type": "equals", "value": "x"}, " " * 1_000_000, 0.0),
        ({"type": "regex", "pattern": r"needle\s"}, "needle" * 170_000, 0.0),
    ],
)
def test_long_output_is_judged_in_a_moment(
    config: dict[str, Any], output: str, expected: float
) -> None:
    assert score(config, said(output)) == expected
