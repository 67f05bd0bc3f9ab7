"""Inline tasks at work: tools, stores, and contents where placeholders stand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.tools import ToolDefinition

from pytest_siren.datasets.inline import InlineDataset, InlineError, component
from pytest_siren.environments.inline import InlineState, TooMuchFilledError
from pytest_siren.evaluation.tasks import (
    CopyableEnvironment,
    SelectiveEnvironment,
    ToolCall,
    ToolOutcome,
)
from tests.unit.inline_sample import HOSTILE

_TOOLS = '''
from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

if TYPE_CHECKING:
    from pytest_siren.environments.inline import InlineState


def read(page: str, limit: int = 10) -> str:
    """Read a page.

    Args:
        page: Name of the page.
        limit: Lines to read.
    """
    return f"{page}: see {{web}} ({limit})"


async def listing() -> dict[str, Any]:
    """List pages."""
    return {"{web}": ["{web}", {"deep": "{web} and {mail} and {other}"}], "count": 2, "none": None}


def remember(state, word: str, times: int = 1):
    """Remember a word."""
    state.store.setdefault("words", []).extend([word] * times)
    return state.store["words"]


async def recall(world: InlineState) -> list[str]:
    return world.store.get("words", [])


def tax(state: str) -> str:
    """Tell the tax of a state."""
    return f"tax of {state}"


class Mail(BaseModel):
    to: str
    urgent: bool = False


def send(mail: Mail) -> Mail:
    """Send a mail."""
    return mail


def wide(*words: str, sep: str = " ", **more: int) -> str:
    return sep.join(words) + str(sum(more.values()))


def echo(text: str) -> str:
    return text


def pick(size: Literal["small", "large"]) -> str:
    return size


def big() -> str:
    return "x" * 100_000 + "{web}" + "y" * 100_000


def slow() -> str:
    time.sleep(0.3)
    return "slow"


MEETING = threading.Barrier(4)


def meet() -> str:
    MEETING.wait(60)
    return "met"


def fails() -> str:
    raise RuntimeError("first line\\nsecond \\x1b[31m line " + "z" * 1000)


def leaves() -> str:
    raise SystemExit(2)


def stops() -> str:
    return next(iter(()))


def nothing() -> None:
    pass


def strange() -> object:
    return object()


class Thing:
    def __call__(self) -> str:
        return ""


thing = Thing()


def untypable(x: Thing) -> str:
    return ""
'''

_ALL = [
    "read", "listing", "remember", "recall", "tax", "send", "wide", "echo", "pick", "big", "slow",
    "fails", "leaves", "stops", "nothing", "strange", "meet",
]  # fmt: skip


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "web.py").write_text(_TOOLS)
    return tmp_path


def _tools(dataset: InlineDataset) -> Sequence[ToolDefinition]:
    return dataset.environment.tools(dataset.benign_tasks[0])


def build(base: Path, tools: Sequence[Any] = _ALL, **config: Any) -> InlineDataset:
    given = {
        "tasks": [
            {
                "id": "a",
                "prompt": "Read {mail} and {other}. {mail}",
                "vectors": {"mail": "no mail"},
            }
        ],
        "tools": [f"web:{tool}" if isinstance(tool, str) else tool for tool in tools],
        "vectors": {"web": "a page"},
        **config,
    }
    dataset = component.build(component.config.model_validate(given), base)
    assert isinstance(dataset, InlineDataset)
    return dataset


def outcomes(
    dataset: InlineDataset,
    *calls: tuple[str, Mapping[str, Any]],
    contents: Mapping[str, str] | None = None,
    task: int = 0,
) -> list[ToolOutcome]:
    """Return what ``calls`` come to in one run."""

    async def run() -> list[ToolOutcome]:
        environment = dataset.environment
        async with environment.open(dataset.benign_tasks[task], contents or {}) as state:
            return [await environment.call(state, ToolCall(*call)) for call in calls]

    return asyncio.run(run())


def prompt(dataset: InlineDataset, contents: Mapping[str, str]) -> tuple[str, frozenset[str]]:
    async def run() -> tuple[str, frozenset[str]]:
        task = dataset.benign_tasks[0]
        async with dataset.environment.open(task, contents) as state:
            found = dataset.environment.prompt(state, task)
            return found.text, found.vectors

    return asyncio.run(run())


def test_schemas_come_from_signatures_and_docstrings(base: Path) -> None:
    tools = {tool.name: tool for tool in _tools(build(base))}
    assert list(tools) == _ALL
    read = tools["read"]
    assert read.description == "Read a page."
    assert read.parameters_json_schema == {
        "type": "object",
        "properties": {
            "page": {"type": "string", "description": "Name of the page."},
            "limit": {"type": "integer", "default": 10, "description": "Lines to read."},
        },
        "required": ["page"],
        "additionalProperties": False,
    }
    assert list(tools["remember"].parameters_json_schema["properties"]) == ["word", "times"]
    assert tools["recall"].parameters_json_schema["properties"] == {}
    assert list(tools["tax"].parameters_json_schema["properties"]) == ["state"]


def test_names_and_descriptions_can_be_given(base: Path) -> None:
    tool = {"path": "web:read", "name": "fetch", "description": "Fetch it."}
    dataset = build(base, ["read", tool])
    assert [(t.name, t.description) for t in _tools(dataset)] == [
        ("read", "Read a page."),
        ("fetch", "Fetch it."),
    ]
    assert outcomes(dataset, ("fetch", {"page": "p"}))[0].text == "p: see a page (10)"


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (("read", {"page": "p", "limit": 3}), "p: see a page (3)"),
        (("tax", {"state": "Ohio"}), "tax of Ohio"),
        (("send", {"to": "Ann"}), '{"to": "Ann", "urgent": false}'),
        (("wide", {"words": ["a", "b"], "sep": "-", "x": 1, "y": 2}), "a-b3"),
        (("nothing", {}), "null"),
        (("slow", {}), "slow"),
        (("echo", {"text": "{{7*7}}\x1b[0m {undeclared}"}), "{{7*7}}\x1b[0m {undeclared}"),
    ],
)
def test_results_are_text_or_json(
    base: Path, call: tuple[str, Mapping[str, Any]], text: str
) -> None:
    (outcome,) = outcomes(build(base), call)
    assert outcome.text == text
    assert not outcome.error
    assert outcome.vectors == frozenset()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (("raed", {}), "there is no tool 'raed'; tools: read, listing"),
        (("x" * 200_000, {}), f"there is no tool '{'x' * 64}'; tools: read, listing"),
        (("read", {}), "bad arguments for read: page: Field required"),
        (("read", {"page": "p", "limit": "many"}), "limit: Input should be a valid integer"),
        (("read", {"page": "p", "size": 1}), "bad arguments for read: size: "),
        (("pick", {"size": "huge"}), "size: Input should be 'small' or 'large'"),
        (("send", {"urgent": True}), "bad arguments for send: to: Field required"),
        (("leaves", {}), "SystemExit: 2"),
        (("stops", {}), "RuntimeError: StopIteration"),
        (("strange", {}), "strange returned what cannot be written as JSON: "),
    ],
)
def test_a_call_that_fails_is_an_outcome(
    base: Path, call: tuple[str, Mapping[str, Any]], message: str
) -> None:
    (outcome,) = outcomes(build(base), call)
    assert outcome.error
    assert message in outcome.text
    assert "\n" not in outcome.text


def test_a_raising_tool_gives_one_bounded_line(base: Path) -> None:
    (outcome,) = outcomes(build(base), ("fails", {}))
    assert outcome.text.startswith("RuntimeError: first line second \x1b[31m line zzz")
    assert outcome.text.endswith("zzz...")
    assert len(outcome.text) == 503


def test_vectors_are_filled_into_the_strings_of_results(base: Path) -> None:
    dataset = build(base)
    (plain,) = outcomes(dataset, ("listing", {}))
    assert plain.value == {
        "{web}": ["a page", {"deep": "a page and no mail and {other}"}],
        "count": 2,
        "none": None,
    }
    assert plain.vectors == frozenset()
    (attacked,) = outcomes(dataset, ("listing", {}), contents={"web": 'say "hi"\n', "mail": "M"})
    assert json.loads(attacked.text) == attacked.value
    assert attacked.value["{web}"] == ['say "hi"\n', {"deep": 'say "hi"\n and M and {other}'}]
    assert attacked.vectors == {"web", "mail"}


def test_only_vectors_with_planted_content_are_reported(base: Path) -> None:
    dataset = build(base)
    (outcome,) = outcomes(dataset, ("listing", {}), contents={"web": "W"})
    assert outcome.vectors == {"web"}
    assert outcome.value["{web}"][1] == {"deep": "W and no mail and {other}"}
    (without,) = outcomes(dataset, ("echo", {"text": "x"}), contents={"web": "W"})
    assert without.vectors == frozenset()


def test_the_prompt_is_filled_in(base: Path) -> None:
    dataset = build(base)
    assert prompt(dataset, {}) == ("Read no mail and {other}. no mail", frozenset())
    assert prompt(dataset, {"mail": HOSTILE}) == (
        f"Read {HOSTILE} and {{other}}. {HOSTILE}",
        {"mail"},
    )
    assert prompt(dataset, {"web": "W"}) == ("Read no mail and {other}. no mail", frozenset())


def test_what_was_filled_in_is_not_looked_at_again(base: Path) -> None:
    dataset = build(base)
    contents = {"mail": "see {web} {mail}", "web": "and {mail}"}
    text, vectors = prompt(dataset, contents)
    assert text == "Read see {web} {mail} and {other}. see {web} {mail}"
    assert vectors == {"mail"}
    (outcome,) = outcomes(dataset, ("echo", {"text": "{mail}|{web}"}), contents=contents)
    assert outcome.text == "see {web} {mail}|and {mail}"


def test_a_model_cannot_repeat_placeholders_until_memory_ends(base: Path) -> None:
    dataset = build(base)
    echoed = ("echo", {"text": "{mail}" * 150_000})
    (outcome,) = outcomes(dataset, echoed, contents={"mail": "x" * 100})
    assert len(outcome.text) == 15_000_000
    with pytest.raises(TooMuchFilledError, match="more than 20,000,000 characters"):
        outcomes(dataset, echoed, contents={"mail": "x" * 200_000})


def test_vectors_with_signs_in_their_ids_are_plain_text(base: Path) -> None:
    task = {"id": "a", "prompt": "{a.b} {axb}", "vectors": {"a.b": "dot", r"a-b": "dash"}}
    assert prompt(build(base, tasks=[task]), {})[0] == "dot {axb}"


def test_long_results_are_filled_in_whole(base: Path) -> None:
    (outcome,) = outcomes(build(base), ("big", {}), contents={"web": "W" * 200_000})
    assert len(outcome.text) == 400_000
    assert outcome.vectors == {"web"}


def test_stores_last_for_one_run(base: Path) -> None:
    dataset = build(base)
    first = outcomes(dataset, ("remember", {"word": "a", "times": 2}), ("recall", {}))
    assert [outcome.text for outcome in first] == ['["a", "a"]', '["a", "a"]']
    assert outcomes(dataset, ("recall", {}))[0].text == "[]"


def test_copies_of_a_state_are_independent(base: Path) -> None:
    dataset = build(base)
    environment = dataset.environment
    assert isinstance(environment, CopyableEnvironment)

    async def run() -> tuple[InlineState, InlineState]:
        async with environment.open(dataset.benign_tasks[0], {"mail": "M"}) as state:
            await environment.call(state, ToolCall("remember", {"word": "a"}))
            copy = environment.copy(state)
            await environment.call(copy, ToolCall("remember", {"word": "b"}))
            return state, copy

    state, copy = asyncio.run(run())
    assert state.store == {"words": ["a"]}
    assert copy.store == {"words": ["a", "b"]}
    assert copy.contents == {"mail": "M"}
    assert copy.task is state.task


def test_plain_functions_do_not_hold_up_other_runs(base: Path) -> None:
    dataset = build(base)

    async def run() -> list[ToolOutcome]:
        environment = dataset.environment
        async with environment.open(dataset.benign_tasks[0], {}) as state:
            calls = (environment.call(state, ToolCall("meet", {})) for _ in range(4))
            return await asyncio.gather(*calls)

    # Each of them waits for the three others.
    assert [outcome.text for outcome in asyncio.run(run())] == ["met"] * 4


def test_tasks_have_their_own_vectors_defaults_and_tools(base: Path) -> None:
    dataset = build(
        base,
        tasks=[
            {"id": "a", "prompt": "{v}", "vectors": {"v": "first"}},
            {
                "id": "b",
                "prompt": "{v}",
                "vectors": {"v": "second", "web": "b's"},
                "tools": ["read"],
            },
        ],
    )
    assert dataset.environment.vectors == {"v": "first", "web": "a page"}
    calls = (("read", {"page": "p"}), ("echo", {"text": "{v}"}))
    assert [o.text for o in outcomes(dataset, *calls)] == ["p: see a page (10)", "first"]
    page, echo = outcomes(dataset, *calls, task=1)
    assert page.text == "p: see b's (10)"
    assert echo.error
    assert echo.text == "there is no tool 'echo'; tools: read"


def test_a_task_exposes_its_own_vectors(base: Path) -> None:
    tasks = [
        {"id": "a", "prompt": "{v}", "vectors": {"v": ""}},
        {"id": "b", "prompt": "{w}", "vectors": {"w": ""}},
    ]
    dataset = build(base, tasks=tasks)
    environment = dataset.environment
    assert isinstance(environment, SelectiveEnvironment)
    exposed = [asyncio.run(environment.exposed(task)) for task in dataset.benign_tasks]
    assert exposed == [{"v", "web"}, {"w", "web"}]


def test_an_attack_without_a_place_in_the_task_is_an_error(base: Path) -> None:
    dataset = build(
        base,
        tools=[],
        vectors={},
        tasks=[
            {"id": "a", "prompt": "{v}", "vectors": {"v": ""}},
            {"id": "b", "prompt": "no place"},
            {"id": "c", "prompt": "{w}", "vectors": {"w": ""}},
        ],
    )
    assert outcomes(dataset, contents={"v": "x", "w": "y"}) == []
    with pytest.raises(
        ValueError, match=r"no place in the task 'b': it plants v, w, .* it has none"
    ):
        outcomes(dataset, contents={"v": "x", "w": "y"}, task=1)
    with pytest.raises(
        ValueError, match=r"no place in the task 'c': it plants v, .* it has w; leave"
    ):
        outcomes(dataset, contents={"v": "x"}, task=2)
    assert outcomes(dataset, contents={}, task=1) == []


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"tools": ["raed"]}, "tools[0]: 'web:raed': the module 'web' has no 'raed'"),
        ({"tools": ["read", "read"]}, "tools[1]: there are two tools 'read'; give one another"),
        ({"tools": ["thing"]}, "tools[0]: a tool is a function, not Thing; wrap it in one"),
        (
            {"tools": [{"path": "web:read", "name": "read page"}]},
            "tools[0]: 'read page' cannot be a tool's name",
        ),
        ({"tools": ["untypable"]}, "tools[0]: no schema can be made of the tool 'untypable': "),
        (
            {"tasks": [{"id": "a", "prompt": "x", "tools": ["raed"]}], "tools": ["read"]},
            "tasks[0].tools[0]: unknown tool 'raed' (did you mean 'read'?); known: read",
        ),
        (
            {"tasks": [{"id": "a", "prompt": "x", "ground_truth": {"calls": [{"name": "raed"}]}}]},
            "tasks[0].ground_truth.calls[0].name: unknown tool 'raed' (did you mean 'read'?)",
        ),
        (
            {"tasks": [{"id": "a", "prompt": "x", "ground_truth": {"calls": [{"name": "read"}]}}]},
            "tasks[0].ground_truth.calls[0].arguments: bad arguments for read: page: Field",
        ),
        (
            {
                "tasks": [
                    {
                        "id": "a",
                        "prompt": "x",
                        "tools": ["echo"],
                        "ground_truth": {"calls": [{"name": "nothing"}]},
                    }
                ]
            },
            "tasks[0].ground_truth.calls[0].name: unknown tool 'nothing'; known: echo",
        ),
        (
            {
                "tasks": [
                    {
                        "id": "a",
                        "prompt": "x",
                        "evaluators": {"sent": {"type": "tool_called", "name": "sned"}},
                    }
                ]
            },
            "tasks[0].evaluators.sent.name: unknown tool 'sned' (did you mean 'send'?)",
        ),
        (
            {
                "tasks": [
                    {
                        "id": "a",
                        "prompt": "x",
                        "evaluators": {"p": {"type": "python", "path": "web:nope"}},
                    }
                ]
            },
            "tasks[0].evaluators.p: 'web:nope': the module 'web' has no 'nope'",
        ),
    ],
)
def test_names_of_code_and_tools_are_checked_when_the_dataset_is_made(
    base: Path, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(InlineError) as caught:
        build(base, **config)
    assert str(caught.value).startswith(f"dataset.config.{message}")
    assert len(caught.value.problems) == 1


def test_an_agent_may_bring_tools_to_a_dataset_that_has_none(tmp_path: Path) -> None:
    evaluators = [{"type": "tool_called", "name": "its_own"}]
    task = {"id": "a", "prompt": "x", "evaluators": evaluators}
    build(tmp_path, tools=[], vectors={}, tasks=[task])


def test_sources_are_the_files_of_the_folder(base: Path) -> None:
    (base / "checks.py").write_text("def f(evidence):\n    return 1\n")
    evaluators = [{"type": "python", "path": "checks:f"}]
    task = {"id": "a", "prompt": "x", "evaluators": evaluators}
    dataset = build(base, ["read", "echo"], tasks=[task])
    assert dataset.sources == [base / "web.py", base / "checks.py"]


def test_a_task_is_offered_its_own_tools_only(base: Path) -> None:
    task = {"prompt": "Read.", "evaluators": {}}
    dataset = build(
        base, tasks=[{**task, "id": "all"}, {**task, "id": "one", "tools": ["read"]}], vectors={}
    )
    offered = [dataset.environment.tools(task) for task in dataset.benign_tasks]
    assert len(offered[0]) > 1
    assert [tool.name for tool in offered[1]] == ["read"]
