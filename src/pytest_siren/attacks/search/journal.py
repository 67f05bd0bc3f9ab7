"""The tries of a search as a journal keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import TypeAdapter
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter
from pydantic_ai.usage import RunUsage
from pydantic_core import to_json, to_jsonable_python

from pytest_siren.attacks.search.protocol import Try
from pytest_siren.evaluation.states import End, EndReason
from pytest_siren.evaluation.tasks import ToolCall

_TRY = TypeAdapter(Try)


@dataclass
class Past:
    """What earlier attempts at a run have tried."""

    tries: list[Try] = field(default_factory=list)
    best: End | None = None
    """Where the agent ended at the best of them; its environment is closed."""


def entry(one: Try, end: End | None) -> dict[str, Any]:
    """Return ``one`` as JSON data, with the state in which the agent ended if it is the best."""
    found: dict[str, Any] = {"try": to_jsonable_python(asdict(one))}
    if end is not None:
        found["end"] = {
            "messages": ModelMessagesTypeAdapter.dump_python(list(end.messages), mode="json"),
            "contents": dict(end.contents),
            "executed": to_jsonable_python([asdict(call) for call in end.executed], fallback=str),
            "reason": end.reason.value,
        }
    return found


def past_of(entries: Iterable[Mapping[str, Any]]) -> Past:
    """Return what ``entries`` tell. Raises ``pydantic.ValidationError``, ``KeyError``.

    Of two entries for one try the first counts.
    """
    past = Past()
    for found in entries:
        one = _TRY.validate_python(found["try"])
        if one.number != len(past.tries) + 1:
            continue
        past.tries.append(one)
        if "end" in found:
            past.best = _end(found["end"])
    return past


def _end(found: Mapping[str, Any]) -> End:
    messages: list[ModelMessage] = ModelMessagesTypeAdapter.validate_json(
        to_json(found["messages"])
    )
    return End(
        messages=tuple(messages),
        usage=RunUsage(),
        contents=found["contents"],
        executed=tuple(ToolCall(**call) for call in found["executed"]),
        env_state=None,
        previous=None,
        reason=EndReason(found["reason"]),
    )
