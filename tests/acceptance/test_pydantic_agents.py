"""The agent ``pydantic_ai``: an ``Agent`` as it is, with the dataset's tools in addition."""

from __future__ import annotations

import json

import pytest

from tests.acceptance.conftest import Project
from tests.acceptance.test_python_agents import EVAL, TOOLS

pytestmark = pytest.mark.inside

AGENT = """
from dataclasses import dataclass

from pydantic_ai import Agent, RunContext
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel


@dataclass
class Deps:
    user: str


def deps():
    return Deps("Ada")


def model(messages, info):
    assert sorted(tool.name for tool in info.function_tools) == ["greet", "order", "read_reviews"]
    assert "You keep a shop." in info.instructions
    assert "Be brief." in info.instructions
    turn = sum(isinstance(message, ModelResponse) for message in messages)
    if turn < 2:
        return ModelResponse([ToolCallPart(("greet", "read_reviews")[turn], {}, f"c{turn}")])
    said = [str(part.content) for message in messages[1:] for part in message.parts
            if part.part_kind == "tool-return"]
    return ModelResponse([TextPart(" ".join(said))])


agent = Agent(FunctionModel(model), instructions="You keep a shop.", deps_type=Deps)


@agent.tool
def greet(context: RunContext[Deps]) -> str:
    return f"Hello {context.deps.user}."


async def make():
    return agent


structured = Agent(output_type=dict[str, int])
without_model = Agent()
raising = Agent(FunctionModel(model))


@raising.instructions
def fail():
    raise OSError("no instructions today")
"""


def shop(project: Project, target: str, config: str = "") -> None:
    (project.path / "evals/eval_mail.yaml").unlink(missing_ok=True)
    project.write("evals/shoptools.py", TOOLS)
    project.write("evals/shop.py", AGENT)
    written = (EVAL % config).replace("type: python", "type: pydantic_ai")
    project.write("evals/eval_shop.yaml", written.replace("shop:answer", f"shop:{target}"))


@pytest.mark.parametrize("target", ["agent", "make"])
def test_an_agent_keeps_its_own_model_tools_and_instructions(project: Project, target: str) -> None:
    shop(project, target, ", deps: shop:deps")
    result = project.run("evals", "--attack=direct", "--benign")
    result.stdout.fnmatch_lines(["shop | pydantic_ai | no model | benign"])
    found = {one["attack"]: one for one in project.results()}
    assert found[None]["benign_score"] == 1.0
    assert found[None]["output"].startswith("Hello Ada. ")
    assert (found["direct"]["attack_score"], found["direct"]["exposed"]) == (1.0, True)
    assert [one["usage"]["requests"] for one in found.values()] == [3, 3], "its own model is seen"
    names = [
        part["tool_name"]
        for message in project.executions()[0]["messages"]
        for part in message["parts"]
        if part["part_kind"] == "tool-call"
    ]
    assert names == ["greet", "read_reviews"]


def test_the_model_of_the_run_takes_the_place_of_its_own(project: Project) -> None:
    shop(project, "agent", ', deps: shop:deps, model: "scripted:call-read_reviews"')
    project.run("evals")
    assert [one["output"] for one in project.results()] == [
        'the tool said: ["Good value.", "Fine."]'
    ]


def test_limits_of_the_run_bind_a_model_of_its_own(project: Project) -> None:
    shop(project, "agent", ", deps: shop:deps")
    with open(project.path / "evals/eval_shop.yaml", "a") as file:
        file.write("usage_limits: {request_limit: 2}\n")
    project.run("evals")
    error = project.results()[0]["exception_info"]
    assert "request_limit of 2" in error["exception_message"]


def test_an_output_that_is_no_text_is_judged_as_json(project: Project) -> None:
    shop(project, "structured", ', model: "test"')
    project.run("evals")
    assert isinstance(json.loads(project.results()[0]["output"]), dict)


FAULTS = {
    "without_model": "ValueError: shop:without_model has no model: name one with agent.config",
    "raising": "OSError: no instructions today",
    "deps": "TypeError: shop:deps returned Deps, not an Agent",
}


@pytest.mark.parametrize("target", FAULTS)
def test_what_goes_wrong_is_an_error_of_the_run(project: Project, target: str) -> None:
    shop(project, target)
    project.run("evals").stdout.fnmatch_lines([f"*{FAULTS[target]}*"])


def test_a_target_that_is_no_agent_is_an_error_of_the_file(project: Project) -> None:
    shop(project, "json")
    project.write("evals/shop.py", "json = {}")
    message = "'shop:json' is dict: it must be an Agent of pydantic-ai, or a function that returns"
    assert message in project.run("evals").stdout.str()
