"""The conversation of a run whose agent keeps its own, put together from what passes by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    RetryPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)

from pytest_siren.evaluation.scoring import words_of
from pytest_siren.evaluation.tasks import ToolCall, ToolOutcome

_Key: TypeAlias = tuple[str, str | None, str]
_SEPARATORS = ("_", "-", ".", "/", ":")
"""What frameworks put between the name of a server and that of its tool."""


@dataclass
class Transcript:
    """What an agent sent to its model and what it called, in order, each message once.

    Agents send the whole conversation with every request, may have several, and shorten them: of
    each request, the parts that were not sent before are kept. A call that no answer of the model
    asked for is kept as one that it asked for, for evaluators look for calls there.
    """

    opening: ModelRequest
    """What the agent was given; it is left out where the agent sends a request of its own first."""
    _messages: list[ModelMessage] = field(default_factory=list)
    _sent: Counter[_Key] = field(default_factory=Counter)
    _asked: list[tuple[int, int]] = field(default_factory=list)
    """Calls that the model asked for and nobody has executed: message and part."""
    _unread: dict[str, ToolReturnPart] = field(default_factory=dict)
    """Results of such calls that no request has shown yet, by the id of the call."""
    _calls: int = 0

    @property
    def messages(self) -> tuple[ModelMessage, ...]:
        """The conversation so far."""
        return tuple(self._messages) or (self.opening,)

    def sending(self, messages: Iterable[ModelMessage]) -> None:
        """Take in the conversation that the agent is about to send to its model."""
        here: Counter[_Key] = Counter()
        for message in messages:
            if isinstance(message, ModelRequest):
                self._take(message, here)

    def answered(self, response: ModelResponse) -> None:
        """Take in an answer of the model."""
        self._messages.append(response)
        at = len(self._messages) - 1
        self._asked += [
            (at, place)
            for place, part in enumerate(response.parts)
            if isinstance(part, ToolCallPart)
        ]

    def calling(self, call: ToolCall) -> ToolCall:
        """Take in a call that is about to be executed; return it with the id that it has here.

        It is one that the model asked for if that has the same id, the same arguments, or at least
        the same name; frameworks put the name of a server before it.
        """
        self._calls += 1
        found = self._find(call)
        if found is not None:
            asked = self._name(found, call.name)
            self._unread[asked.tool_call_id] = _returned(call, asked.tool_call_id, None)
            return replace(call, id=asked.tool_call_id)
        self._open()
        call = replace(call, id=call.id or f"call_{self._calls}")
        part = ToolCallPart(call.name, dict(call.args), tool_call_id=call.id or "")
        self._messages.append(ModelResponse([part]))
        return call

    def called(self, call: ToolCall, outcome: ToolOutcome) -> None:
        """Take in the outcome of ``call``, which ``calling`` returned."""
        part = _returned(call, call.id or "", outcome)
        if part.tool_call_id in self._unread:
            self._unread[part.tool_call_id] = part
        else:
            self._messages.append(ModelRequest([part]))

    def end(self, answer: str | None) -> None:
        """Close the conversation with ``answer``, unless the model's last words are the same."""
        self._open()
        last = self._messages[-1]
        same = answer is None or (
            isinstance(last, ModelResponse) and words_of(last).strip() == answer.strip()
        )
        if same:
            return
        if self._unread:
            self._messages.append(ModelRequest(list(self._unread.values())))
            self._unread.clear()
        self._messages.append(ModelResponse([TextPart(answer or "")]))

    def _open(self) -> None:
        if not self._messages:
            self._take(self.opening, Counter())

    def _take(self, message: ModelRequest, here: Counter[_Key]) -> None:
        """Keep the parts of ``message`` that occur more often in this request than before."""
        new: list[ModelRequestPart] = []
        for part in message.parts:
            key = _key(part)
            here[key] += 1
            if here[key] > self._sent[key]:
                self._sent[key] = here[key]
                new.append(part)
            if isinstance(part, ToolReturnPart | RetryPromptPart):
                self._unread.pop(part.tool_call_id, None)
        if new:
            whole = len(new) == len(message.parts)
            self._messages.append(message if whole else replace(message, parts=new))

    def _find(self, call: ToolCall) -> tuple[int, int] | None:
        named = [
            place for place in self._asked if _is_named(self._part(place).tool_name, call.name)
        ]
        by_id = [place for place in named if self._part(place).tool_call_id == call.id]
        alike = [place for place in named if _args(self._part(place)) == dict(call.args)]
        return next(iter((*by_id, *alike, *named)), None)

    def _part(self, place: tuple[int, int]) -> ToolCallPart:
        part = self._messages[place[0]].parts[place[1]]
        assert isinstance(part, ToolCallPart)
        return part

    def _name(self, place: tuple[int, int], name: str) -> ToolCallPart:
        """Take the call at ``place`` for executed, under the name that the dataset's tool has."""
        self._asked.remove(place)
        part = self._part(place)
        if part.tool_name != name:
            part = replace(part, tool_name=name)
            response = self._messages[place[0]]
            assert isinstance(response, ModelResponse)
            parts = list(response.parts)
            parts[place[1]] = part
            self._messages[place[0]] = replace(response, parts=parts)
        return part


def _is_named(asked: str, name: str) -> bool:
    return asked == name or asked.endswith(tuple(mark + name for mark in _SEPARATORS))


def _args(part: ToolCallPart) -> dict[str, Any] | None:
    try:
        return part.args_as_dict()
    except (ValueError, AssertionError):
        return None  # what the model wrote is no JSON object


def _returned(call: ToolCall, call_id: str, outcome: ToolOutcome | None) -> ToolReturnPart:
    """Return the result of ``call``; without an outcome, of one that did not end."""
    failed = outcome is None or outcome.error
    return ToolReturnPart(
        tool_name=call.name,
        content="" if outcome is None else outcome.text,
        tool_call_id=call_id,
        outcome="failed" if failed else "success",
    )


def _key(part: ModelRequestPart) -> _Key:
    return part.part_kind, getattr(part, "tool_call_id", None), _text(part)


def _text(part: ModelRequestPart) -> str:
    return str(getattr(part, "content", ""))


def texts_of(messages: Sequence[ModelMessage]) -> list[str]:
    """Return what the requests among ``messages`` say, part by part."""
    return [
        _text(part)
        for message in messages
        if isinstance(message, ModelRequest)
        for part in message.parts
    ]
