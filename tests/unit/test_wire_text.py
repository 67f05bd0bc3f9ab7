"""Text that cannot be sent is replaced on its way out, and answers that hold some are read."""

from __future__ import annotations

import asyncio
import json
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.tools import ToolDefinition

from pytest_siren.models.wire.text import decodable, sendable, sendable_message
from tests.unit.growth import grows_linearly
from tests.unit.limits_server import Answer, bound, governed, serving
from tests.unit.wire_sample import CHAT, GOODS, MESSAGES, NAMES, asked, lead_to

pytestmark = pytest.mark.usefixtures("few_certificates")

LONE = "a\ud83db"
MENDED = "a\N{REPLACEMENT CHARACTER}b"
ANYTHING = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=())), inner, max_size=3)
    ),
    max_leaves=8,
)


def conversation(text: str, number: float = 1.0) -> list[ModelMessage]:
    return [
        ModelRequest([SystemPromptPart(text), UserPromptPart([text])], instructions=text),
        ModelResponse([TextPart(text), ToolCallPart("look", {text: [text], "x": number}, "c1")]),
        ModelRequest([ToolReturnPart("look", {"found": text}, "c1")]),
    ]


def sendable_messages(messages: list[Any]) -> list[Any]:
    """Return ``messages`` as they can be sent; the same list when none is changed."""
    cleaned = [sendable_message(message) for message in messages]
    same = all(one is two for one, two in zip(messages, cleaned, strict=True))
    return messages if same else cleaned


def dump(messages: list[ModelMessage]) -> Any:
    """Return what is said in ``messages``, without times."""
    return [
        [getattr(part, "content", None) or getattr(part, "args", None) for part in message.parts]
        + [getattr(message, "instructions", None)]
        for message in messages
    ]


@given(ANYTHING)
def test_whatever_is_sent_can_be_encoded(value: Any) -> None:
    json.dumps(sendable({"value": value}), ensure_ascii=False, allow_nan=False).encode()
    json.dumps(decodable({"value": value}), ensure_ascii=False).encode()
    assert "\0" not in str(sendable(value))


def test_messages_of_every_kind_are_mended_and_kept() -> None:
    given = conversation(LONE)
    assert dump(sendable_messages(given)) == dump(conversation(MENDED))
    assert given[0].parts[0].content == LONE
    clean = conversation("héllo 😀")
    assert sendable_messages(clean) is clean
    nul = sendable_messages([ModelRequest([UserPromptPart("a\0b")])])
    assert nul[0].parts[0].content == MENDED


def test_arguments_that_are_json_text_are_looked_into() -> None:
    call = ModelResponse([ToolCallPart("look", '{"to": "a\\ud83db", "ok": "\\ud83d\\ude00"}', "c")])
    (mended,) = sendable_messages([call])
    assert isinstance(mended.parts[0], ToolCallPart)
    assert mended.parts[0].args == f'{{"to": "{MENDED}", "ok": "😀"}}'
    call = ModelResponse([ToolCallPart("look", '{"x": 1e999, "y": [NaN, -Infinity, 1]}', "c")])
    (mended,) = sendable_messages([call])
    assert isinstance(mended.parts[0], ToolCallPart)
    largest = 1.7976931348623157e308
    assert json.loads(str(mended.parts[0].args)) == {"x": largest, "y": [None, -largest, 1]}
    for text in ("no JSON \\ud83d NaN", '{"a": "NaN"}', '{"x": 1e3}'):
        kept = [ModelResponse([ToolCallPart("look", text, "c")])]
        assert sendable_messages(kept) is kept
    prose: list[ModelMessage] = [ModelRequest([UserPromptPart('{"a": "\\ud83d", "x": NaN}')])]
    assert sendable_messages(prose) is prose
    fine = [ModelResponse([ToolCallPart("look", '{"ok": "\\ud83d\\ude00"}', "c")])]
    assert sendable_messages(fine) is fine


@pytest.mark.parametrize("unit", ["\ud83d", "\\ud83d", "\0", "é", '{"', "9", "[", "1e999,"])
def test_long_text_takes_time_in_proportion(unit: str) -> None:
    def sent(text: str) -> None:
        sendable_messages([ModelResponse([ToolCallPart("look", text, "c")])])

    assert grows_linearly(sent, unit, 500_000)


@pytest.mark.parametrize("name", NAMES)
def test_a_surrogate_from_anywhere_is_sent_as_a_replacement(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = ToolDefinition(
        name="look", parameters_json_schema={"type": "object", "properties": {}}, description=LONE
    )
    parameters = ModelRequestParameters(function_tools=[tool])

    async def run(source: Any) -> list[str]:
        model = await bound(source)
        answers = [
            await model.request(conversation(LONE, number), None, parameters)
            for number in (float("inf"), float("nan"))
        ]
        return [answer.text or "" for answer in answers]

    async def serve() -> list[str]:
        async with serving(Answer(200, GOODS[name])) as server:
            async with governed(server, monkeypatch, name=name) as source:
                lead_to(server.url, monkeypatch)
                texts = await run(source)
                bodies.extend(server.bodies)
                return texts

    bodies: list[bytes] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert asyncio.run(serve()) == ["Done."] * 2
    notes = [str(one.message) for one in caught if one.category is not ResourceWarning]
    assert notes == [
        f"model {name!r}: what no provider accepts (lone surrogates, NUL, numbers that are not "
        "finite) was replaced in what is sent to it"
    ]
    for body in bodies:
        assert MENDED in json.dumps(json.loads(body), ensure_ascii=False)
        assert b"\\ud83d" not in body.lower()


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_with_half_a_character_is_read(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = json.dumps(GOODS[name]).replace("Done.", "a\\ud83db \\ud83d\\ude00")
    done = asked(name, Answer(200, text, {"content-type": "application/json"}), monkeypatch)
    assert done.text == f"{MENDED} 😀"


def test_numbers_beyond_all_bounds_in_arguments_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"x": 1e999}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "finish_reason": "tool_calls", "message": message}
    done = asked(CHAT, Answer(200, {**GOODS[CHAT], "choices": [choice]}), monkeypatch)
    assert done.answer is not None
    # Anthropic's arguments are JSON within the answer's.
    block = {"type": "tool_use", "id": "c", "name": "f", "input": {"x": 7}}
    used = json.dumps({**GOODS[MESSAGES], "content": [block]})
    wide = Answer(200, used.replace("7", "1e999"), {"content-type": "application/json"})
    done = asked(MESSAGES, wide, monkeypatch)
    assert done.answer is not None
