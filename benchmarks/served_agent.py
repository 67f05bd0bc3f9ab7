"""An agent in a process of its own, which knows nothing of its runs but their addresses.

``python -m benchmarks.served_agent`` reads a run per line from standard input, as JSON:
``base_url``, ``mcp_url``, ``prompt``, ``number``, and whether there are ``tools``. It works on all
at the same time, and writes for each its number and the answer. With ``--loop requests`` it sends
plain HTTP requests instead of using the clients of vendors, whose own work hides the endpoint's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import Any

import aiohttp

CALL_HEADERS = {
    "accept": "application/json, text/event-stream",
    "mcp-protocol-version": "2025-11-25",
}


async def by_clients(run: dict[str, Any], http: Any) -> str:
    """Answer as an agent on the official clients does."""
    from mcp import Client

    client = http.with_options(base_url=run["base_url"])
    async with Client(run["mcp_url"]) as tools:
        offered = [_offer(one.name, one.description, one.input_schema)
                   for one in (await tools.list_tools()).tools]  # fmt: skip
        messages: list[Any] = [{"role": "user", "content": run["prompt"]}]
        while True:
            answer = await client.chat.completions.create(
                model="m", messages=messages, tools=offered
            )
            message = answer.choices[0].message
            if not message.tool_calls:
                return message.content or ""
            messages.append(message)
            for call in message.tool_calls:
                given = json.loads(call.function.arguments)
                result = await tools.call_tool(call.function.name, given)
                text = result.content[0].text  # type: ignore[union-attr]
                messages.append({"role": "tool", "tool_call_id": call.id, "content": text})


async def by_requests(run: dict[str, Any], http: aiohttp.ClientSession) -> str:
    """Answer by the same requests, made by hand."""

    async def mcp(method: str, **params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        async with http.post(run["mcp_url"], json=body, headers=CALL_HEADERS) as found:
            return (await found.json())["result"]

    listed = (await mcp("tools/list"))["tools"] if run["tools"] else []
    tools = [_offer(one["name"], one.get("description"), one["inputSchema"]) for one in listed]
    messages: list[Any] = [{"role": "user", "content": run["prompt"]}]
    while True:
        body = {"model": "m", "messages": messages, **({"tools": tools} if tools else {})}
        async with http.post(f"{run['base_url']}/chat/completions", json=body) as found:
            message = (await found.json())["choices"][0]["message"]
        if not message.get("tool_calls"):
            return str(message["content"])
        messages.append(message)
        for call in message["tool_calls"]:
            function = call["function"]
            given = json.loads(function["arguments"])
            result = await mcp("tools/call", name=function["name"], arguments=given)
            text = result["content"][0]["text"]
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": text})


def _offer(name: str, description: str | None, schema: dict[str, Any]) -> dict[str, Any]:
    function = {"name": name, "description": description, "parameters": schema}
    return {"type": "function", "function": function}


async def work(way: str) -> None:
    """Answer what standard input asks for, until it ends."""
    from openai import AsyncOpenAI

    reading = asyncio.StreamReader(limit=1 << 20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reading), sys.stdin)
    http: Any = AsyncOpenAI(base_url="http://unused", api_key="x")
    if way == "requests":
        http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    answer = by_clients if way == "clients" else by_requests
    tasks: set[asyncio.Task[None]] = set()

    async def one(run: dict[str, Any]) -> None:
        text = await answer(run, http)
        print(json.dumps({"number": run["number"], "answer": text}), flush=True)

    while line := await reading.readline():
        task = asyncio.create_task(one(json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await http.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--loop", choices=["clients", "requests"], default="clients")
    asyncio.run(work(parser.parse_args().loop))
