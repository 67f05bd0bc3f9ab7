"""What handles text of models and tools takes time in proportion to its length."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart

from pytest_siren.environments.inline import Placeholders, _one_line
from pytest_siren.evaluation.scoring import decode_call
from pytest_siren.evaluators import json_schema as strict_json
from pytest_siren.evaluators.json_schema import answer
from pytest_siren.jobs.records.attempt import dump_messages
from pytest_siren.jobs.records.jsonable import to_jsonable
from pytest_siren.jobs.redact import Redactor, of_config, of_override, shown_override
from pytest_siren.jobs.writing.write import _json, _yaml
from pytest_siren.models.ratelimit import error_class as facts
from pytest_siren.reports.html.encode import script_json, visible
from pytest_siren.reports.html.transcript import _shown
from pytest_siren.reports.markdown import quoted
from pytest_siren.reports.sarif import _text
from pytest_siren.session.items.job import visible as visible_name
from pytest_siren.session.items.report import screened
from pytest_siren.session.reporting.annotations import _data
from pytest_siren.text import words as terminal
from pytest_siren.text.words import cell, escaped
from tests.unit.growth import grows_linearly

SIZES = [250_000, pytest.param(1_000_000, marks=pytest.mark.nightly)]
UNITS = {
    "hexadecimal": "c0ffee42",
    "one letter": "a",
    "backslashes": "\\",
    "quotes": "\\\"'",
    "urls": "a://b:c",
    "slashes": "://",
    "cookies": 'cookie": \\',
    "headers": "authorization: bearer ",
    "redacted headers": "cookie: <redacted> ",
    "tokens": "-eyJabcdefgh.password= sk-",
    "keys": "-----BEGIN A PRIVATE KEY",
    "markup": "<a href='",
    "combining": "e\u0301\u0301",
    "direction": "\u202e",
    "newlines": "\n",
    "space": " \t",
    "brackets": '[{"a":',
    "escapes": "\\u00e9\\n",
    "surrogates": "\ud800",
    "fences": "```\n::",
}
SECRETS = Redactor(
    frozenset({"hunter2", "c0ffee42c0ffee43", "a" * 30 + "b", "\\" * 10 + "n1", "a horse <x>"})
)
PLANTED = {"abc abc": 0, "a" * 1000: 1, "a" * 100_000 + "x": 2, "\u00e9 \u00e9": 3, "[ {": 4}


def _loaded(text: str) -> None:
    with suppress(ValueError):
        strict_json.loads(text)


def _decoded(text: str) -> None:
    with suppress(RecursionError):
        decode_call(ToolCallPart("x", text, "c"))


def _messages(text: str) -> None:
    dump_messages((ModelResponse([TextPart(text), ToolCallPart("a", {"x": text}, "c")]),))


FUNCTIONS: dict[str, Callable[[str], Any]] = {
    "screened": lambda text: screened(text, SECRETS),
    "json": lambda text: _json({"a": [text]}, 2, SECRETS),
    "yaml": lambda text: _yaml({"agent": {"config": {"a": text}}}, (), SECRETS),
    "overrides": lambda text: (of_override(f"a.api_key={text}"), shown_override(f"a={text}")),
    "config": lambda text: of_config({"agent": {"api_key": text, "b": text}}),
    "plain": lambda text: to_jsonable({text: [text]}),
    "messages": _messages,
    "calls": _decoded,
    "strict json": _loaded,
    "fenced": answer,
    "placeholders": lambda text: Placeholders({"v": "x"}).fill(text, {"v": text}),
    "tools": _one_line,
    "errors": escaped,
    "providers": facts.printable,
    "terminal": lambda text: terminal.printable(text, 200),
    "names": visible_name,
    "annotations": _data,
    "markdown": quoted,
    "sarif": _text,
    "csv": cell,
    "html": script_json,
    "html text": visible,
    "html marks": lambda text: _shown("result", text, PLANTED),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_time_grows_in_proportion(name: str, size: int) -> None:
    work = FUNCTIONS[name]
    slow = [what for what, unit in UNITS.items() if not grows_linearly(work, unit, size)]
    assert slow == []
