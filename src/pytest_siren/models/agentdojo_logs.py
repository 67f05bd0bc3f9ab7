"""AgentDojo's log files: their fields, and their messages as pydantic-ai's and back.

AgentDojo (``agentdojo/logging.py``, ``TraceLogger``) has written messages in two forms: contents as
texts, in logs of its benchmark v1 and v1.1, and contents as lists of blocks in those of v1.2.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from pytest_siren.evaluation.models import STOP_AFTER

FORMAT = "agentdojo"
"""Key in a message's metadata: the message as the log has it, where it differs from ``logged``."""
NO_ATTACK = "none"
_UNNAMED_CALL = "agentdojo-"
"""How the ids of calls begin that have none in the log."""
_STOPPED = "the recorded run ended with these calls"

Id = Annotated[str, Field(min_length=1)]


class Log(BaseModel):
    """A log file: what AgentDojo's loader (``benchmark.TaskResults``) reads of it, and the rest.

    The loader refuses logs without scores, which are those of runs that were interrupted.
    """

    model_config = ConfigDict(extra="allow")

    suite_name: Id
    pipeline_name: Id
    user_task_id: Id
    injection_task_id: Id | None
    attack_type: Id | None
    injections: dict[str, str]
    messages: list[dict[str, Any]]
    error: str | None
    utility: bool
    security: bool
    """Of attacked runs, whether the attacker's goal was reached."""
    duration: Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
    benchmark_version: str | None = None
    agentdojo_package_version: str | None = None
    evaluation_timestamp: str | None = None
    """Local time at which the run began, of an unknown zone."""

    @property
    def attack(self) -> str | None:
        """Name of the attack; ``None`` for a run without one."""
        return None if self.attack_type in (None, NO_ATTACK) else self.attack_type

    @property
    def task_id(self) -> str:
        """Id of the task or couple."""
        if self.attack is None:
            return self.user_task_id
        return f"{self.user_task_id}:{self.injection_task_id}"

    @property
    def prompt(self) -> str:
        """The first message of the user; empty where there is none."""
        said = (text_of(one.get("content")) for one in self.messages if one["role"] == "user")
        return next(said, None) or ""


def text_of(content: Any) -> str | None:
    """Return a message's text as AgentDojo judges it: all blocks, a line each."""
    if content is None or isinstance(content, str):
        return content
    texts = [block["content"] for block in content if block["content"] is not None]
    return "\n".join(texts)


def read_messages(messages: Sequence[Mapping[str, Any]], at: str) -> list[dict[str, Any]]:
    """Return the messages of a log as the JSON that pydantic-ai's adapter reads, one for each.

    ``at`` is the time that they get, in ISO 8601, for logs hold none. ``write_messages`` returns
    the log's own. Raises ``KeyError``, ``TypeError`` or ``AttributeError`` for what is no message.
    """
    reader = _Reader(at)
    found = [reader.message(index, one) for index, one in enumerate(messages)]
    if messages and messages[-1]["role"] == "assistant" and messages[-1].get("tool_calls"):
        # What was asked for last and never answered was not executed either.
        found[-1]["metadata"] = {STOP_AFTER: _STOPPED}
    blocks = in_blocks(messages)
    for own, again, read in zip(messages, write_messages(found, blocks=blocks), found, strict=True):
        if own != again:
            read["metadata"] = {**(read.get("metadata") or {}), FORMAT: own}
    return found


def in_blocks(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether contents are lists of blocks, as AgentDojo writes them since its v1.2."""
    contents = (one.get("content") for one in messages)
    return next((isinstance(one, list) for one in contents if one is not None), True)


@dataclass
class _Reader:
    at: str

    def __post_init__(self) -> None:
        self._open: list[tuple[str, str]] = []
        """Calls of the last assistant message that have no result yet: id and name of the tool."""

    def message(self, index: int, message: Mapping[str, Any]) -> dict[str, Any]:
        role, text = message["role"], text_of(message.get("content"))
        if role == "assistant":
            calls = list(_calls(message.get("tool_calls") or (), index))
            self._open = [(call["tool_call_id"], call["tool_name"]) for call in calls]
            parts = [] if text is None else [{"content": text, "part_kind": "text"}]
            return {"parts": parts + calls, "timestamp": self.at, "kind": "response"}
        if role == "tool":
            return self._request(self._result(index, message, text or ""))
        if role not in ("system", "user"):
            raise TypeError(f"the role {role!r} is not known")
        return self._request({"content": text or "", "part_kind": f"{role}-prompt"})

    def _request(self, part: dict[str, Any]) -> dict[str, Any]:
        return {"parts": [{**part, "timestamp": self.at}], "kind": "request"}

    def _result(self, index: int, message: Mapping[str, Any], text: str) -> dict[str, Any]:
        call, error = message.get("tool_call") or {}, message.get("error")
        name = str(call.get("function") or "")
        given = message.get("tool_call_id") or call.get("id")
        return {
            "tool_name": name,
            # Models are shown the error in place of the content.
            "content": text if error is None else str(error),
            "tool_call_id": self._answered(given, name) or f"{_UNNAMED_CALL}{index}",
            "outcome": "success" if error is None else "failed",
            "part_kind": "tool-return",
        }

    def _answered(self, given: str | None, name: str) -> str | None:
        """Return the id of the call that a result belongs to; ``None`` if nobody asked for it."""
        fitting = [one for one in self._open if given in (None, one[0]) and one[1] == name]
        if not fitting:
            return given
        self._open.remove(fitting[0])
        return fitting[0][0]


def _calls(calls: Sequence[Mapping[str, Any]], index: int) -> Iterator[dict[str, Any]]:
    for position, call in enumerate(calls):
        yield {
            "tool_name": call["function"],
            "args": dict(call["args"] or {}),
            "tool_call_id": call.get("id") or f"{_UNNAMED_CALL}{index}-{position}",
            "part_kind": "tool-call",
        }


def write_messages(messages: Sequence[Mapping[str, Any]], *, blocks: bool) -> list[dict[str, Any]]:
    """Return messages, as pydantic-ai's adapter writes them, as a log has them.

    ``blocks`` is as in ``in_blocks``. Of a response, thinking and files are left out; a message
    that was read from a log is written as it was.
    """
    writer = _Writer(blocks)
    return [one for message in messages for one in writer.message(message)]


@dataclass
class _Writer:
    blocks: bool

    def __post_init__(self) -> None:
        self._calls: dict[str, dict[str, Any]] = {}

    def message(self, message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        logged = (message.get("metadata") or {}).get(FORMAT)
        if message["kind"] == "response":
            yield self._assistant(message["parts"], logged)
        elif logged is not None:
            yield logged
        else:
            for part in message["parts"]:
                yield self._read_by_model(part)

    def _assistant(
        self, parts: Sequence[Mapping[str, Any]], logged: dict[str, Any] | None
    ) -> dict[str, Any]:
        texts = [part["content"] for part in parts if part["part_kind"] == "text"]
        calls = []
        for part in parts:
            if part["part_kind"] == "tool-call":
                call = self._call(part)
                self._calls[part["tool_call_id"]] = call
                calls.append(call)
        content = self._content("".join(texts)) if texts else None
        return logged or {"role": "assistant", "content": content, "tool_calls": calls or None}

    def _read_by_model(self, part: Mapping[str, Any]) -> dict[str, Any]:
        kind, text = part["part_kind"], text_of_part(part)
        if kind not in ("tool-return", "retry-prompt") or not part.get("tool_name"):
            role = "system" if kind == "system-prompt" else "user"
            return {"role": role, "content": self._content(text)}
        call_id = part["tool_call_id"]
        call = self._calls.get(call_id) or self._call({**part, "args": {}})
        failed = kind == "retry-prompt" or part.get("outcome", "success") != "success"
        return {
            "role": "tool",
            "content": self._content("" if failed else text),
            "tool_call_id": self._id(call_id),
            "tool_call": call,
            "error": text if failed else None,
        }

    def _call(self, part: Mapping[str, Any]) -> dict[str, Any]:
        call = {"function": part["tool_name"], "args": _arguments(part["args"])}
        known = self._id(part["tool_call_id"])
        if self.blocks:
            return {**call, "id": known, "placeholder_args": None}
        return call if known is None else {**call, "id": known}

    def _content(self, text: str) -> Any:
        return [{"type": "text", "content": text}] if self.blocks else text

    def _id(self, call_id: str) -> str | None:
        return None if call_id.startswith(_UNNAMED_CALL) else call_id


def text_of_part(part: Mapping[str, Any]) -> str:
    """Return the content of a part of a request as text; of several pieces, a line each."""
    content = part.get("content")
    pieces = content if isinstance(content, list) else [content]
    return "\n".join(one if isinstance(one, str) else json.dumps(one) for one in pieces)


def _arguments(args: Any) -> dict[str, Any]:
    """Return the arguments of a call; none for what is no JSON object, which is not executed."""
    try:
        found = json.loads(args) if isinstance(args, str) else args
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
