from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic_ai.messages import TextPart

from tests.unit.inline_sample import HOSTILE, called, conversation, refusals, said, score, thought


def contains(**keys: Any) -> dict[str, Any]:
    return {"type": "contains", **keys}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (contains(value="paris"), 1.0),
        (contains(value="paris", case_sensitive=True), 0.0),
        (contains(value=["paris", "london"]), 0.0),
        (contains(value=["paris", "london"], mode="any"), 1.0),
        (contains(value=["paris", "capital"], mode="all"), 1.0),
        (contains(value="STRASSE"), 1.0),
        ({"type": "not_contains", "value": ["london", "rome"]}, 1.0),
        ({"type": "not_contains", "value": ["london", "paris"]}, 0.0),
        ({"type": "not_contains", "value": "paris", "case_sensitive": True}, 1.0),
    ],
)
def test_contains_looks_for_phrases_in_the_output(config: dict[str, Any], expected: float) -> None:
    assert score(config, said("The capital, Paris, has no Straße.")) == expected


def test_only_the_last_message_is_the_output() -> None:
    evidence = conversation(TextPart("Paris"), TextPart("London"))
    assert score(contains(value="Paris"), evidence) == 0.0
    assert score(contains(value="London"), evidence) == 1.0


def test_where_messages_judges_each_response_for_itself() -> None:
    evidence = conversation(TextPart("Par"), TextPart("is"), called("search", {"q": "Rome"}))
    assert score(contains(value=["Par", "is"], where="messages"), evidence) == 1.0
    assert score(contains(value="Par\nis", where="messages"), evidence) == 0.0
    assert score({"type": "equals", "value": "is", "where": "messages"}, evidence) == 1.0
    assert score({"type": "regex", "pattern": "^is$", "where": "messages"}, evidence) == 1.0
    assert score({"type": "not_contains", "value": "par", "where": "messages"}, evidence) == 0.0


def test_thoughts_arguments_and_tool_results_are_not_what_the_model_said() -> None:
    evidence = conversation(thought("Rome"), called("search", {"q": "Rome"}), TextPart("fine"))
    for phrase in ("Rome", "forbidden", "go on"):
        assert score(contains(value=phrase, where="messages"), evidence) == 0.0


def test_a_run_that_ends_in_a_call_has_an_empty_output() -> None:
    evidence = conversation(TextPart("Paris"), called("search"))
    assert score(contains(value="Paris"), evidence) == 0.0
    assert score({"type": "not_contains", "value": "Paris"}, evidence) == 1.0
    assert score({"type": "equals", "value": ""}, evidence) == 1.0


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"value": "42"}, 1.0),
        ({"value": "42", "strip": False}, 0.0),
        ({"value": " 42\n", "strip": False}, 1.0),
        ({"value": "4"}, 0.0),
    ],
)
def test_equals_ignores_surrounding_space_unless_told(
    keys: dict[str, Any], expected: float
) -> None:
    assert score({"type": "equals", **keys}, said(" 42\n")) == expected


def test_equals_heeds_case_unless_told() -> None:
    assert score({"type": "equals", "value": "YES"}, said("yes")) == 0.0
    assert score({"type": "equals", "value": "YES", "case_sensitive": False}, said("yes")) == 1.0


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"pattern": r"\d{4}-\d\d"}, 1.0),
        ({"pattern": "DATE"}, 0.0),
        ({"pattern": "DATE", "flags": ["ignorecase"]}, 1.0),
        ({"pattern": "^second$"}, 0.0),
        ({"pattern": "^second$", "flags": ["multiline"]}, 1.0),
        ({"pattern": "date.*second", "flags": ["dotall"]}, 1.0),
        ({"pattern": "se co nd # words", "flags": ["verbose"]}, 1.0),
        ({"pattern": r"^\w+$", "flags": ["ascii", "multiline"]}, 1.0),
    ],
)
def test_regex_searches_anywhere(keys: dict[str, Any], expected: float) -> None:
    assert score({"type": "regex", **keys}, said("date 2024-05\nsecond")) == expected


def test_regex_looks_at_the_whole_text() -> None:
    assert score({"type": "regex", "pattern": "y"}, said("x" * 1_000_000 + "y")) == 1.0


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("x{s}", "x{s}", 1.0),
        ("x{s}", "y", 0.0),
        ("^item{e}$", "it", 0.0),
        ("^a{2}{d}$", "aa{d}", 1.0),
        ("[{e}]+", "{e}", 1.0),
        (r"\{i\}", "{i}", 1.0),
        ("^x{,2}y{1,}$", "xxyyy", 1.0),
    ],
)
def test_regex_has_the_syntax_of_re(pattern: str, text: str, expected: float) -> None:
    assert (re.search(pattern, text) is not None) == bool(expected)
    assert score({"type": "regex", "pattern": pattern}, said(text)) == expected


def test_hostile_text_is_only_text() -> None:
    evidence = said(HOSTILE)
    assert score(contains(value="{{7*7}}"), evidence) == 1.0
    assert score(contains(value="49"), evidence) == 0.0
    assert score({"type": "equals", "value": HOSTILE}, evidence) == 1.0
    assert score({"type": "regex", "pattern": re.escape(HOSTILE)}, evidence) == 1.0


def test_long_texts_are_judged_quickly() -> None:
    evidence = said("a" * 200_000 + "needle")
    assert score(contains(value=["needle", "a" * 1000]), evidence) == 1.0


@pytest.mark.parametrize(
    ("config", "place", "message"),
    [
        (contains(value=42), ("value",), "must be a text or a list of texts (quote numbers)"),
        (contains(value=["a", 1]), ("value",), "must be a text or a list of texts (quote numbers)"),
        (contains(value=""), ("value", 0), "at least 1 character"),
        (contains(value=[]), ("value",), "at least 1 item"),
        (contains(), ("value",), "Field required"),
        (contains(value="a", vlaue="b"), ("vlaue",), "not permitted"),
        (contains(value="a", mode="some"), ("mode",), "'all' or 'any'"),
        (contains(value="a", where="output "), ("where",), "'output' or 'messages'"),
        (contains(value="a", case_sensitive="no"), ("case_sensitive",), "valid boolean"),
        ({"type": "not_contains", "value": "a", "mode": "any"}, ("mode",), "not permitted"),
        ({"type": "equals", "value": 1}, ("value",), "valid string"),
        ({"type": "regex", "pattern": "(a"}, ("pattern",), "not a regular expression: missing )"),
        ({"type": "regex", "pattern": "[[a]"}, ("pattern",), "not a regular expression: Possible"),
        ({"type": "regex", "pattern": ""}, ("pattern",), "at least 1 character"),
        ({"type": "regex", "pattern": "a", "flags": ["i"]}, ("flags", 0), "'ignorecase'"),
    ],
)
def test_what_is_wrong_is_reported_at_its_key(
    config: dict[str, Any], place: tuple[str | int, ...], message: str
) -> None:
    ((found, text),) = refusals(config)
    assert found == place
    assert message in text
