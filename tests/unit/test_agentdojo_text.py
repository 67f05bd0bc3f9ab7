"""Tool results become the very text that AgentDojo makes of them."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("agentdojo", reason="needs the extra agentdojo")

import yaml
from pydantic import BaseModel

from pytest_siren.environments.agentdojo.lazy_import import without_sdks

with without_sdks():
    from agentdojo.agent_pipeline.tool_execution import tool_result_to_str

    from pytest_siren.environments.agentdojo.text import ResultTexts

TEXTS = ResultTexts()
WORDS = st.one_of(
    st.text(max_size=40),
    st.text("ab :-#'\"\n\t{}[]&*!|>%@`é\u2028\U0001f600", max_size=200),
    st.sampled_from(
        ["yes", "null", "1", "1.5", "2026-01-01", "- a", "? b", "", " ", "~", "=", "<<"]
    ),
)
SCALARS = st.one_of(
    WORDS, st.none(), st.booleans(), st.integers(), st.floats(), st.dates(), st.datetimes()
)
KEYS = st.one_of(st.sampled_from(["id_", "body", "no", "Y", "sender", "null"]), WORDS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)


class Anything(BaseModel):
    """A result of any form: AgentDojo dumps what ``model_dump`` returns."""

    content: dict[str, Any]

    def model_dump(self, **_: Any) -> dict[str, Any]:
        return self.content


@given(st.lists(st.dictionaries(KEYS, VALUES, max_size=5), max_size=4))
def test_lists_of_items_read_as_agentdojo_writes_them(contents: list[dict[str, Any]]) -> None:
    result = [Anything(content=content) for content in contents]
    assert TEXTS.text(result) == tool_result_to_str(result)
    assert TEXTS.text(result) == tool_result_to_str(result)


@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_an_item_reads_as_agentdojo_writes_it(content: dict[str, Any]) -> None:
    result = Anything(content=content)
    assert TEXTS.text(result) == tool_result_to_str(result)


@given(st.lists(st.one_of(st.integers(), WORDS), max_size=5))
def test_lists_of_texts_read_as_agentdojo_writes_them(result: list[Any]) -> None:
    assert TEXTS.text(result) == tool_result_to_str(result)


@pytest.mark.parametrize("shared", [datetime(2026, 1, 1), date(2026, 1, 1), ["a"], {"a": 1}])
def test_what_stands_twice_becomes_an_alias_as_ever(shared: Any) -> None:
    for contents in (
        [{"a": shared}, {"a": shared}],
        [{"a": shared, "b": shared}],
        [{"a": shared, "b": {"c": [shared]}}, {"d": 1}],
    ):
        result = [Anything(content=content) for content in contents]
        assert TEXTS.text(result) == tool_result_to_str(result)
        assert "*id001" in TEXTS.text(result)
        assert TEXTS.text(result[0]) == tool_result_to_str(result[0])


def test_equal_data_with_and_without_an_alias_are_told_apart() -> None:
    one = [1]
    assert "*id001" in TEXTS.text(Anything(content={"a": one, "b": one}))
    assert "*id001" not in TEXTS.text(Anything(content={"a": [1], "b": [1]}))
    assert TEXTS.text(Anything(content={"a": 1})) != TEXTS.text(Anything(content={"a": True}))


def test_what_yaml_cannot_write_raises_as_ever() -> None:
    for result in (
        Anything(content={"a": object()}),
        Anything(content={"a": lambda: None, "b": 1}),
    ):
        with pytest.raises(yaml.YAMLError):
            tool_result_to_str(result)
        with pytest.raises(yaml.YAMLError, match="cannot represent an object"):
            TEXTS.text(result)
    with pytest.raises(TypeError, match="Not valid type for item tool result"):
        TEXTS.text([1.5])
