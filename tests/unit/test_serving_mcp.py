"""The tools of a run, called by the MCP library's own client."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from mcp import Client, MCPError, StdioServerParameters, stdio_client
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.usage import UsageLimits

from pytest_siren.evaluation.tasks import BenignTask, ToolCall, ToolOutcome
from tests.unit.serving_sample import Stand, stood
from tests.unit.test_stage import Mailbox, MailEnvironment

MODES = ["auto", "legacy"]
SEND = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


class DescribedEnvironment(MailEnvironment):
    """Tools with descriptions and schemas; one of them waits, one fails."""

    def __init__(self) -> None:
        super().__init__()
        self.at_work = 0
        self.most_at_work = 0
        self.order: list[str] = []

    def tools(self, task: BenignTask) -> list[ToolDefinition]:
        return [ToolDefinition(name="read", description="Read the mail."),
                ToolDefinition(name="send", parameters_json_schema=SEND)]  # fmt: skip

    async def call(self, state: Mailbox, call: ToolCall) -> ToolOutcome:
        if call.name == "fail":
            raise OSError("the disk is full")
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        self.order.append(str(call.args.get("text")))
        await asyncio.sleep(0.01)
        self.at_work -= 1
        return await super().call(state, call)


@pytest.mark.parametrize("mode", MODES)
def test_tools_are_listed_with_their_schemas(mode: str) -> None:
    async def test(stand: Stand) -> Any:
        async with Client(stand.served.mcp_url, mode=mode) as client:
            return (await client.list_tools()).tools, client.server_info

    (read, send), server = stood(test, environment=DescribedEnvironment())
    assert (read.name, read.description) == ("read", "Read the mail.")
    assert (send.name, send.description, send.input_schema) == ("send", None, SEND)
    assert server.name == "pytest-siren"


@pytest.mark.parametrize("mode", MODES)
def test_a_call_returns_what_plain_reads_and_is_recorded_in_order(mode: str) -> None:
    async def test(stand: Stand) -> Any:
        async with Client(stand.served.mcp_url, mode=mode) as client:
            found = [
                await client.call_tool("send", {"text": "hello"}),
                await client.call_tool("read", {}),
                await client.call_tool("nothing", {}),
            ]
        stand.world.submit("done")
        return found, stand.world.end()

    (sent, mail, unknown), end = stood(test, contents={"body": "EVIL"})
    texts = [one.content[0].text for one in (sent, mail, unknown)]
    assert texts == ["sent", "mail: EVIL", "no tool nothing"]
    assert [one.is_error for one in (sent, mail, unknown)] == [False, False, True]
    calls = [(call.name, dict(call.args)) for call in end.executed]
    assert calls == [("send", {"text": "hello"}), ("read", {}), ("nothing", {})]
    assert end.env_state.sent == ["hello"]


def test_calls_at_the_same_time_are_executed_one_by_one_as_they_arrive() -> None:
    environment = DescribedEnvironment()

    async def test(stand: Stand) -> None:
        async with Client(stand.served.mcp_url) as client:
            for text in "abc":
                await client.call_tool("send", {"text": text})
            await asyncio.gather(*(client.call_tool("send", {"text": "d"}) for _ in range(20)))

    stood(test, environment=environment)
    assert (environment.most_at_work, len(environment.order)) == (1, 23)
    assert environment.order[:3] == ["a", "b", "c"]


@pytest.mark.parametrize("mode", MODES)
def test_an_environment_that_fails_is_an_error_of_the_protocol_and_ends_the_run(mode: str) -> None:
    async def test(stand: Stand) -> tuple[str, str]:
        async with Client(stand.served.mcp_url, mode=mode) as client:
            with pytest.raises(MCPError) as failed:
                await client.call_tool("fail", {})
            with pytest.raises(MCPError) as after:
                await client.call_tool("read", {})
        with pytest.raises(OSError, match="the disk is full"):
            stand.world.end()
        return str(failed.value), str(after.value)

    failed, after = stood(test, environment=DescribedEnvironment())
    assert "the disk is full" in failed
    assert after.startswith("the run has ended: OSError: the disk is full")


def test_a_limit_on_calls_holds() -> None:
    async def test(stand: Stand) -> str:
        async with Client(stand.served.mcp_url) as client:
            await client.call_tool("read", {})
            with pytest.raises(MCPError) as refused:
                await client.call_tool("read", {})
        return str(refused.value)

    found = stood(test, limits=UsageLimits(request_limit=None, tool_calls_limit=1))
    assert "tool_calls_limit of 1" in found


@pytest.mark.parametrize("mode", MODES)
def test_a_call_after_the_end_of_the_run_is_refused_and_counted(mode: str) -> None:
    async def test(stand: Stand) -> tuple[str, int]:
        async with Client(stand.served.mcp_url, mode=mode) as client:
            await stand.world.close()
            with pytest.raises(MCPError) as refused:
                await client.call_tool("read", {})
        return str(refused.value), stand.world.late

    message, late = stood(test)
    assert (message, late) == (
        "the run has ended: it calls no tool and asks no model any more", 1)  # fmt: skip


def posted(body: bytes, headers: Mapping[str, str] | None = None) -> httpx.Response:
    async def test(stand: Stand) -> httpx.Response:
        kinds = {"content-type": "application/json",
                 "accept": "application/json, text/event-stream", **(headers or {})}  # fmt: skip
        async with httpx.AsyncClient() as client:
            found = await client.post(stand.served.mcp_url, content=body, headers=kinds)
            listed = await client.post(
                stand.served.mcp_url, headers=kinds,
                json={"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}},
            )  # fmt: skip
        assert len(listed.json()["result"]["tools"]) == 2  # The run goes on.
        return found

    return stood(test)


def test_broken_json_is_refused_and_the_run_goes_on() -> None:
    found = posted(b'{"jsonrpc": "2.0", ')
    assert (found.status_code, found.json()["error"]["code"]) == (400, -32700)


def test_a_body_that_is_no_request_is_refused_and_the_run_goes_on() -> None:
    found = posted(b'"call me"')
    assert found.status_code == 400
    assert found.json()["error"]["code"] in (-32600, -32602)


def test_arguments_that_are_no_object_are_refused_and_the_run_goes_on() -> None:
    call = {"jsonrpc": "2.0", "id": 7, "method": "tools/call",
            "params": {"name": "send", "arguments": "now"}}  # fmt: skip
    found = posted(json.dumps(call).encode())
    assert found.json()["error"]["code"] == -32602


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_there_is_no_stream_to_open_and_no_session_to_end(method: str) -> None:
    async def test(stand: Stand) -> httpx.Response:
        async with httpx.AsyncClient() as client:
            return await client.request(method, stand.served.mcp_url)

    found = stood(test)
    assert found.status_code == 405
    assert "sends nothing on its own" in found.json()["error"]["message"]


@pytest.mark.parametrize("mode", MODES)
def test_the_bridge_is_the_same_server_on_standard_input_and_output(mode: str) -> None:
    async def test(stand: Stand) -> Any:
        command, *args = json.loads(stand.served.environment["SIREN_MCP_COMMAND"])
        program = stdio_client(StdioServerParameters(command=command, args=args))
        async with Client(program, mode=mode) as client:
            tools = [tool.name for tool in (await client.list_tools()).tools]
            mail = await client.call_tool("read", {})
            unknown = await client.call_tool("nothing", {})
            await stand.world.close()
            with pytest.raises(MCPError) as refused:
                await client.call_tool("read", {})
        return tools, mail.content[0].text, unknown.is_error, str(refused.value)

    tools, mail, unknown, refused = stood(test)
    assert (tools, mail, unknown) == (["read", "send"], "mail: nothing new", True)
    assert refused.startswith("the run has ended")


def test_the_bridge_says_what_it_needs() -> None:
    async def test() -> tuple[int | None, bytes]:
        variables = {name: value for name, value in os.environ.items() if name != "SIREN_MCP_URL"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pytest_siren.serving.bridge",
            stderr=asyncio.subprocess.PIPE, env=variables,
        )  # fmt: skip
        _, said = await process.communicate()
        return process.returncode, said

    code, said = asyncio.run(test())
    assert code == 1
    assert b"usage: python -m pytest_siren.serving.bridge URL (or set SIREN_MCP_URL)" in said
