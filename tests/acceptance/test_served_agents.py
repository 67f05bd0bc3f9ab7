"""Agents that find the tools and the model of their run at addresses, as real clients do."""

from __future__ import annotations

import sys

import pytest

from tests.acceptance.conftest import Project
from tests.acceptance.test_command_agents import AGENT, of_runs
from tests.acceptance.test_command_agents import shop as command_shop
from tests.acceptance.test_python_agents import shop as python_shop

pytestmark = pytest.mark.inside

LOOP = """
import asyncio, json, os

from mcp import Client
from openai import AsyncOpenAI


async def answer(prompt, base_url, mcp_url, api_key):
    openai = AsyncOpenAI(base_url=base_url, api_key=api_key)
    async with Client(mcp_url) as tools, openai:
        offered = [
            {"type": "function", "function": {"name": one.name, "parameters": one.input_schema}}
            for one in (await tools.list_tools()).tools
        ]
        messages = [{"role": "user", "content": prompt}]
        while True:
            done = await openai.chat.completions.create(
                model="any", messages=messages, tools=offered
            )
            said = done.choices[0].message
            messages.append(said.model_dump(exclude_none=True))
            if not said.tool_calls:
                return said.content
            for call in said.tool_calls:
                found = await tools.call_tool(
                    call.function.name, json.loads(call.function.arguments)
                )
                text = found.content[0].text
                messages.append({"role": "tool", "tool_call_id": call.id, "content": text})


if __name__ == "__main__":
    import sys
    print(asyncio.run(answer(
        sys.stdin.read(),
        os.environ["OPENAI_BASE_URL"],
        os.environ["SIREN_MCP_URL"],
        os.environ["OPENAI_API_KEY"],
    )))
"""
MODEL = ', model: "scripted:call-read_reviews"'


def scores(project: Project) -> None:
    found = {one["attack"]: one for one in project.results()}
    assert found[None]["benign_score"] == 1.0, found[None]
    assert found[None]["output"] == 'the tool said: ["Good value.", "Fine."]'
    assert (found["direct"]["attack_score"], found["direct"]["exposed"]) == (1.0, True)
    assert [one["usage"]["requests"] for one in found.values()] == [2, 2]
    for execution in project.executions():
        kinds = [part["part_kind"] for one in execution["messages"] for part in one["parts"]]
        assert kinds == ["user-prompt", "tool-call", "tool-return", "text"]


def test_a_function_uses_the_clients_of_openai_and_mcp(project: Project) -> None:
    python_shop(project, LOOP, MODEL)
    project.run("evals", "--attack=direct", "--benign")
    scores(project)


def test_a_program_uses_the_clients_of_openai_and_mcp(project: Project) -> None:
    command_shop(project, LOOP, AGENT, MODEL)
    project.run("evals", "--attack=direct", "--benign")
    scores(project)
    assert of_runs() == []


VARIABLES = """
import os
names = [name for name in os.environ if name.startswith(("OPENAI_", "ANTHROPIC_", "SIREN_"))]
print("Good value", *sorted(names), *sys_args)
"""


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (
            MODEL,
            "ANTHROPIC_API_KEY ANTHROPIC_BASE_URL OPENAI_API_KEY OPENAI_BASE_URL SIREN_MCP_COMMAND "
            "SIREN_MCP_URL SIREN_MODEL SIREN_PROMPT SIREN_RUN SIREN_SYSTEM_PROMPT",
        ),
        ("", "SIREN_MCP_COMMAND SIREN_MCP_URL SIREN_PROMPT SIREN_RUN SIREN_SYSTEM_PROMPT"),
        (", serve: false", "SIREN_PROMPT SIREN_RUN SIREN_SYSTEM_PROMPT"),
    ],
    ids=["with a model", "without a model", "not served"],
)
def test_a_program_gets_the_variables_of_what_there_is(
    project: Project, config: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SIREN_CACHE_DIR")
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    command_shop(project, VARIABLES.replace(", *sys_args", ""), AGENT, config)
    project.run("evals")
    assert [one["output"] for one in project.results()] == [f"Good value {named}"]


def test_an_endpoint_may_be_given_the_addresses(project: Project) -> None:
    """A deployed agent that takes the model and the tools of each request."""
    service = f"""
import asyncio, json, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
{LOOP.partition("if __name__")[0]}

class Shop(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = asyncio.run(answer(**asked))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(said.encode())


HTTPServer(("127.0.0.1", int(sys.argv[1])), Shop).serve_forever()
"""
    python_shop(project, "", MODEL)
    project.write("evals/service.py", service)
    path = project.path / "evals/eval_shop.yaml"
    text = path.read_text().replace("type: python", "type: http")
    parts = ", ".join(
        f'{name}: "{{{name}}}"' for name in ("prompt", "base_url", "mcp_url", "api_key")
    )
    start = f"{sys.executable} {{folder}}/service.py {{port}}"
    path.write_text(
        text.replace(
            'target: "shop:answer"',
            f'url: "http://127.0.0.1:{{port}}", request: {{{parts}}}, '
            f'start: {{command: "{start}"}}',
        )
    )
    project.run("evals", "--attack=direct", "--benign")
    scores(project)


def test_a_model_that_an_endpoint_is_not_given_is_an_error_of_the_file(project: Project) -> None:
    python_shop(project, "", MODEL)
    path = project.path / "evals/eval_shop.yaml"
    text = path.read_text().replace("type: python", "type: http")
    path.write_text(text.replace('target: "shop:answer"', "url: http://127.0.0.1"))
    message = "model has no effect: no {base_url} or {anthropic_url} in the request"
    assert message in project.run("evals").stdout.str()


def test_a_program_that_goes_on_after_a_limit_is_stopped(project: Project) -> None:
    program = """
import os, time, urllib.request
while True:
    request = urllib.request.Request(
        os.environ["OPENAI_BASE_URL"] + "/chat/completions",
        b'{"model": "x", "messages": [{"role": "user", "content": "hi"}]}',
        {"content-type": "application/json"},
    )
    try:
        urllib.request.urlopen(request).read()
    except Exception:
        time.sleep(0.05)
"""
    command_shop(project, program, AGENT, ', model: "scripted:deaf"')
    with open(project.path / "evals/eval_shop.yaml", "a") as file:
        file.write("usage_limits: {request_limit: 3}\n")
    project.run("evals")
    [result] = project.results()
    assert "request_limit of 3" in result["exception_info"]["exception_message"]
    assert result["usage"]["requests"] == 3
    assert of_runs() == []


def test_an_error_of_the_model_is_that_of_the_run(project: Project) -> None:
    command_shop(project, LOOP, AGENT, ', model: "scripted:crash"')
    project.run("evals")
    [result] = project.results()
    assert result["exception_info"]["exception_message"] == "the model is on fire"
