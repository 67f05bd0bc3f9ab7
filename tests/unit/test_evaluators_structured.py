"""``json_schema`` and ``tool_called``."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from pydantic_ai.messages import TextPart

from tests.unit.inline_sample import HOSTILE, called, conversation, refusals, said, score

_PERSON = {
    "type": "object",
    "properties": {"name": {"$ref": "#/$defs/text"}, "age": {"type": "integer"}},
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {"text": {"type": "string"}},
}


def valid(output: str, schema: Any = _PERSON) -> float:
    return score({"type": "json_schema", "schema": schema}, said(output))


@pytest.mark.parametrize(
    "output",
    [
        '{"name": "Ann", "age": 3}',
        ' \n{"name": "Ann"}\n',
        'Here it is:\n```json\n{"name": "Ann"}\n```\nDone.',
        '```\n{"name": "Ann"}\n```',
        '```JSON\n{"name": "```"}\n```',
        'First\n```python\nprint("{}")\n```\nthen\n```json\n{"name": "Ann"}\n```',
    ],
)
def test_valid_json_is_accepted_alone_or_fenced(output: str) -> None:
    assert valid(output) == 1.0


@pytest.mark.parametrize(
    "output",
    [
        "",
        "Ann",
        '{"name": 1}',
        '{"age": 1}',
        '{"name": "Ann", "x": 1}',
        'It is {"name": "Ann"}',
        '```json\n{"name": "Ann"}',
        '```python\n{"name": "Ann"}\n```',
        '```json\n{"name": 1}\n```\n```json\n{"name": "Ann"}\n```',
        '{"name": "Ann", "name": 1}',
        '{"name": "Ann", "age": NaN}',
        "{'name': 'Ann'}",
        HOSTILE,
    ],
)
def test_everything_else_is_not(output: str) -> None:
    assert valid(output) == 0.0


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"n":['])
def test_nesting_that_no_reader_can_follow_scores_zero(opening: str) -> None:
    assert valid(opening * 100_000, {}) == 0.0


def test_a_recursive_schema_meets_a_deep_answer() -> None:
    tree = {"properties": {"child": {"$ref": "#"}}, "type": "object"}
    shallow, deep = '{"child": {}}', '{"child":' * 900 + "{}" + "}" * 900
    assert valid(shallow, tree) == 1.0
    assert valid(deep, tree) in (0.0, 1.0)


def test_older_drafts_and_the_metaschema_are_known() -> None:
    draft = "http://json-schema.org/draft-07/schema#"
    assert valid("[1]", {"$schema": draft, "items": [{"type": "string"}]}) == 0.0
    meta = {"$ref": "https://json-schema.org/draft/2020-12/schema"}
    assert valid('{"type": "object"}', meta) == 1.0
    assert valid('{"type": 3}', meta) == 0.0


def test_references_are_never_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*args: Any) -> None:
        raise AssertionError("connected")

    monkeypatch.setattr(socket.socket, "connect", connect)
    ((place, message),) = refusals(
        {"type": "json_schema", "schema": {"$ref": "http://localhost/schema.json"}}
    )
    assert place == ("schema",)
    assert message == "the reference 'http://localhost/schema.json' leads nowhere"


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "strng"}, "not a JSON Schema: 'strng' is not valid under any of the given"),
        ({"properties": {"a": {"minLength": "x"}}}, "$.properties.a.minLength"),
        ({"properties": {"a": {"$ref": "#/$defs/b"}}}, "the reference '/$defs/b' leads nowhere"),
        (["a"], "valid dictionary"),
    ],
)
def test_a_schema_is_checked_before_anything_runs(schema: Any, message: str) -> None:
    ((place, text),) = refusals({"type": "json_schema", "schema": schema})
    assert place == ("schema",)
    assert message in text


_MAIL = conversation(
    called("send_mail", {"to": ["eve@example.com", "bob@example.com"], "subject": "Hi Eve"}),
    called("send_mail", '{"to": "eve@example.com", "urgent": true, "count": 1}'),
    called("send_mail", "{not json"),
    called("list_mail"),
    TextPart("done"),
)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"name": "send_mail"}, 1.0),
        ({"name": "delete_mail"}, 0.0),
        ({"name": "delete_mail", "times": 0}, 1.0),
        ({"name": "send_mail", "times": 2}, 1.0),
        ({"name": "send_mail", "times": 3}, 0.0),
        ({"name": "list_mail", "times": 1}, 1.0),
        ({"name": "send_mail", "arguments": {"to": "eve@example.com"}, "times": 1}, 1.0),
        ({"name": "send_mail", "arguments": {"to": ["eve@example.com"]}}, 0.0),
        ({"name": "send_mail", "arguments": {"to": {"contains": "eve@"}}, "times": 1}, 1.0),
        ({"name": "send_mail", "arguments": {"to": {"contains": "bob@example.com"}}}, 1.0),
        ({"name": "send_mail", "arguments": {"to": {"regex": "^eve"}}, "times": 1}, 1.0),
        ({"name": "send_mail", "arguments": {"subject": {"regex": "(?i)^hi"}}}, 1.0),
        ({"name": "send_mail", "arguments": {"urgent": True}}, 1.0),
        ({"name": "send_mail", "arguments": {"urgent": 1}}, 0.0),
        ({"name": "send_mail", "arguments": {"count": True}}, 0.0),
        ({"name": "send_mail", "arguments": {"count": 1.0}}, 1.0),
        ({"name": "send_mail", "arguments": {"count": {"regex": "1"}}}, 0.0),
        ({"name": "send_mail", "arguments": {"count": 1, "subject": "Hi Eve"}}, 0.0),
        ({"name": "list_mail", "arguments": {"to": None}}, 0.0),
        ({"name": "send_mail", "arguments": {"to": {"equals": {"regex": "^eve"}}}}, 0.0),
    ],
)
def test_tool_called_counts_matching_calls(keys: dict[str, Any], expected: float) -> None:
    assert score({"type": "tool_called", **keys}, _MAIL) == expected


def test_tool_called_compares_nested_arguments_as_json() -> None:
    evidence = conversation(called("put", {"doc": {"a": [1, {"b": None}], "regex": "x"}}))
    wanted = {"a": [1.0, {"b": None}], "regex": "x"}
    assert (
        score({"type": "tool_called", "name": "put", "arguments": {"doc": wanted}}, evidence) == 1
    )
    wanted["a"] = [True, {"b": None}]
    assert (
        score({"type": "tool_called", "name": "put", "arguments": {"doc": wanted}}, evidence) == 0
    )


def test_equals_lets_an_argument_be_a_mapping_that_looks_like_a_matcher() -> None:
    evidence = conversation(called("find", {"query": {"regex": "a+"}}))
    keys = {"name": "find", "arguments": {"query": {"equals": {"regex": "a+"}}}}
    assert score({"type": "tool_called", **keys}, evidence) == 1.0


@pytest.mark.parametrize(
    ("keys", "place", "message"),
    [
        ({"name": ""}, ("name",), "at least 1 character"),
        ({"name": "a", "times": -1}, ("times",), "greater than or equal to 0"),
        ({"name": "a", "times": "2"}, ("times",), "valid integer"),
        ({"name": "a", "args": {}}, ("args",), "not permitted"),
        ({"name": "a", "arguments": ["b"]}, ("arguments",), "valid dictionary"),
        (
            {"name": "a", "arguments": {"b": {"regex": "("}}},
            ("arguments", "b"),
            "not a regular expression",
        ),
        (
            {"name": "a", "arguments": {"b": {"contains": ""}}},
            ("arguments", "b"),
            "'contains' takes a text that is not empty",
        ),
    ],
)
def test_what_is_wrong_with_a_call_is_reported(
    keys: dict[str, Any], place: tuple[str, ...], message: str
) -> None:
    ((found, text),) = refusals({"type": "tool_called", **keys})
    assert found == place
    assert message in text
