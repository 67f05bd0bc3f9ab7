"""Choosing evaluators by type, and naming them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from pytest_siren.evaluation.components import Kind, Registry
from pytest_siren.evaluators import json_schema as strict_json
from pytest_siren.evaluators.choice import EVALUATORS, NamedEvaluators
from tests.unit.inline_sample import refusals


class Task(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    evaluators: NamedEvaluators


def names(evaluators: Any) -> list[str]:
    return list(Task.model_validate({"evaluators": evaluators}).evaluators)


def test_an_unknown_type_lists_the_known_ones_and_the_nearest() -> None:
    ((place, message),) = refusals({"type": "contians", "value": "a"})
    assert place == ("type",)
    assert message == (
        "unknown evaluator type 'contians' (did you mean 'contains'?); known: contains, "
        "equals, json_schema, model_graded, not_contains, python, regex, tool_called"
    )


@pytest.mark.parametrize(
    ("config", "place", "message"),
    [
        ({"value": "a"}, (), "the evaluator has no type; known: contains, equals"),
        ({"type": ["regex"]}, ("type",), "unknown evaluator type \"['regex']\""),
        ("contains", (), "valid dictionary"),
        (None, (), "valid dictionary"),
    ],
)
def test_an_evaluator_is_a_mapping_with_a_type(config: Any, place: Any, message: str) -> None:
    ((found, text),) = refusals(config)
    assert found == place
    assert message in text


def test_every_type_is_known_under_its_own_name() -> None:
    assert Registry().names(Kind.EVALUATOR) == sorted(EVALUATORS)
    for name, model in EVALUATORS.items():
        assert Registry().find(Kind.EVALUATOR, name).config is model
        assert model.model_json_schema()["properties"]["type"]["const"] == name


def test_names_come_from_the_mapping_or_from_the_types_of_a_list() -> None:
    contains = {"type": "contains", "value": "a"}
    regex = {"type": "regex", "pattern": "a"}
    assert names({"first": contains, "second": regex}) == ["first", "second"]
    assert names([contains, regex, contains]) == ["contains", "regex", "contains_2"]
    assert names([]) == []


@pytest.mark.parametrize(
    ("evaluators", "place"),
    [
        ({"x": {"type": "contains", "value": 3}}, ("evaluators", "x", "value")),
        ([{"type": "contains", "value": 3}], ("evaluators", 0, "value")),
        ({"x": {"type": "equals"}}, ("evaluators", "x", "value")),
        ({"x": {"type": "json_schema", "schema": 1}}, ("evaluators", "x", "schema")),
        ({"": {"type": "contains", "value": "a"}}, ("evaluators", "", "[key]")),
        ({"a\x1b[0m": {"type": "contains", "value": "a"}}, ("evaluators", "a\x1b[0m", "[key]")),
        ("contains", ("evaluators",)),
    ],
)
def test_errors_lie_where_the_keys_are(evaluators: Any, place: tuple[str | int, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        names(evaluators)
    assert [error["loc"] for error in caught.value.errors()] == [place]


def test_messages_show_escapes_of_a_terminal_as_text() -> None:
    with pytest.raises(ValidationError) as caught:
        names({"a\x1b[0m": {"type": "contains", "value": "a"}})
    assert caught.value.errors()[0]["msg"].startswith(r"'a\x1b[0m' cannot be a name")


def test_configs_survive_a_round_trip_through_json() -> None:
    given: dict[str, Any] = {
        "a": {"type": "contains", "value": "x"},
        "b": {"type": "json_schema", "schema": {"type": "object"}},
        "c": {"type": "tool_called", "name": "t", "arguments": {"q": {"regex": "a"}}},
        "d": {"type": "python", "path": "a:b", "config": {"k": 1}},
    }
    task = Task.model_validate({"evaluators": given})
    dumped = task.model_dump(mode="json")
    assert dumped["evaluators"]["b"] == given["b"]
    assert dumped["evaluators"]["c"]["arguments"] == given["c"]["arguments"]
    assert Task.model_validate(dumped) == task
    assert Task.model_validate(task.model_dump()) == task


def test_building_an_evaluator_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "boom.py").write_text("def f(evidence):\n    raise AssertionError\n")
    task = Task.model_validate({"evaluators": [{"type": "python", "path": "boom:f"}]})
    assert callable(task.evaluators["python"].build(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' occurs twice in one object"),
        ("[NaN]", "NaN is not JSON"),
        ("[-Infinity]", "-Infinity is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("{'a': 1}", "Expecting property name"),
    ],
)
def test_strict_json_refuses_what_is_ambiguous(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        strict_json.loads(text)
