"""The details of one run on the page: everything except its row of the table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_siren.jobs.reading.job_config import RecordError
from pytest_siren.jobs.reading.read import load_result, load_transcript
from pytest_siren.records import Result
from pytest_siren.reports.html.marking import marked

MOST_CHARACTERS = 200_000
"""Largest length of one text; the page notes that the rest is left out."""

_TITLES = {
    "system-prompt": "system",
    "user-prompt": "user",
    "tool-return": "result",
    "builtin-tool-return": "result",
    "retry-prompt": "retry",
    "text": "assistant",
    "thinking": "thinking",
    "tool-call": "call",
    "builtin-tool-call": "call",
}
_SPANS = {"model": "Model request", "tool": "Tool call", "agent": "Agent"}
_READ = frozenset({"system", "user", "result", "retry", "instructions"})
"""Kinds of parts that an agent reads; planted text is marked only in these."""


def transcript(folder: Path) -> dict[str, Any]:
    """Return the details of the attempt in ``folder``, as JSON data.

    ``problems`` lists files that could not be read; they raise nothing.
    """
    shown: dict[str, Any] = {"problems": []}
    try:
        shown |= _outcome(load_result(folder))
    except RecordError as error:
        shown["problems"].append(str(error))
    try:
        document = load_transcript(folder)
        contents = _contents(document.get("attacks"))
        shown["planted"] = [[names, _bounded(content)] for content, names in contents.items()]
        numbers = {content: number for number, content in enumerate(contents)}
        shown["messages"] = list(_messages(document.get("messages"), numbers))
        shown["spans"] = list(_spans(document.get("spans")))
    except RecordError as error:
        shown["problems"].append(str(error))
    return shown


def _outcome(result: Result) -> dict[str, Any]:
    error = result.exception_info
    return {
        "nodeid": result.nodeid,
        "started": result.started_at.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "output": _bounded(result.output),
        "evaluators": [
            [kind, name, score]
            for kind, scores in (
                ("utility", result.benign_evaluators),
                ("attack", result.attack_evaluators),
            )
            for name, score in scores.items()
        ],
        "unknown": [
            [kind, why]
            for kind, why in (("utility", result.benign_unknown), ("attack", result.attack_unknown))
            if why is not None
        ],
        "retries": len(result.retries),
        "error": None
        if error is None
        else {
            "type": error.exception_type,
            "message": _bounded(error.exception_message),
            "traceback": _bounded(error.exception_traceback),
        },
    }


def _contents(attacks: Any) -> dict[str, list[str]]:
    """Return each planted content with the names of the vectors that hold it."""
    contents: dict[str, list[str]] = {}
    for vector, attack in attacks.items() if isinstance(attacks, dict) else ():
        content = attack.get("content") if isinstance(attack, dict) else attack
        contents.setdefault(_text(content), []).append(str(vector))
    return contents


def _messages(messages: Any, planted: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    if not isinstance(messages, list):
        raise RecordError("the messages are not an array")
    for message in messages:
        if not isinstance(message, dict):
            yield {"kind": "other", "text": [[_text(message)]]}
            continue
        if message.get("instructions"):
            yield _shown("instructions", message["instructions"], planted)
        parts = message.get("parts")
        for part in parts if isinstance(parts, list) else [parts]:
            yield _part(part, planted)
        if refusal := _refusal(message):
            yield _shown("assistant", refusal, planted)


def _spans(spans: Any) -> Iterator[dict[str, Any]]:
    """Yield what the agent's own telemetry tells, each with its facts and texts."""
    for span in spans if isinstance(spans, list) else ():
        if not isinstance(span, dict):
            continue
        tokens = [span.get("input_tokens"), span.get("output_tokens")]
        facts = [f"{span.get('duration', 0):.3f} s"] if _is_number(span.get("duration")) else []
        if any(map(_is_number, tokens)):
            facts.append(f"tokens {tokens[0] or 0} in, {tokens[1] or 0} out")
        yield {
            "kind": _SPANS.get(str(span.get("kind")), "Span"),
            "name": _text(span.get("subject") or span.get("name")),
            "facts": facts,
            "error": _bounded(_text(span.get("error"))),
            "input": _bounded(_text(span.get("input"))),
            "output": _bounded(_text(span.get("output"))),
        }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refusal(message: Mapping[str, Any]) -> Any:
    """Return the text of a refusal that is in no part of ``message``."""
    details = message.get("provider_details")
    refusal = details.get("refusal") if isinstance(details, dict) else None
    parts = message.get("parts")
    known = parts if isinstance(parts, list) else []
    texts = [part.get("content") for part in known if isinstance(part, dict)]
    return None if refusal in texts else refusal


def _part(part: Any, planted: Mapping[str, int]) -> dict[str, Any]:
    kind = _TITLES.get(str(part.get("part_kind"))) if isinstance(part, dict) else None
    if kind is None:
        return {"kind": "other", "text": [[_bounded(_text(_without_bytes(part)))]]}
    value = part.get("args") if kind == "call" else part.get("content")
    shown = _shown(kind, value, planted)
    if part.get("tool_name"):
        shown["tool"] = str(part["tool_name"])
        shown["id"] = str(part.get("tool_call_id") or "")
    if part.get("outcome") not in (None, "success"):
        shown["outcome"] = str(part["outcome"])
    return shown


def _shown(kind: str, value: Any, planted: Mapping[str, int]) -> dict[str, Any]:
    text = _bounded(_text(value))
    pieces = marked(text, planted) if kind in _READ else [(text, ())]
    return {"kind": kind, "text": [[piece, *numbers] for piece, numbers in pieces]}


def _text(value: Any) -> str:
    """Return ``value`` as text: text unchanged, several texts joined, other values as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if _is_media(value):
        return str(_without_bytes(value))
    if isinstance(value, list) and any(isinstance(one, str) or _is_media(one) for one in value):
        return "\n".join(_text(one) for one in value)
    return json.dumps(_without_bytes(value), indent=2, ensure_ascii=False)


def _is_media(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("data"), str) and "media_type" in value


def _without_bytes(value: Any) -> Any:
    """Replace images and other files by a placeholder."""
    if _is_media(value):
        return f"[{value['media_type']}, {len(value['data']) * 3 // 4:,} bytes]"
    if isinstance(value, dict):
        return {name: _without_bytes(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_without_bytes(one) for one in value]
    return value


def _bounded(text: str) -> str:
    if len(text) <= MOST_CHARACTERS:
        return text
    left = len(text) - MOST_CHARACTERS
    return f"{text[:MOST_CHARACTERS]}\n[{left:,} more characters are in the record]"
