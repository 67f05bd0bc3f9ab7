"""A run's MCP server on standard input and output, for agents that start theirs as a program.

``python -m pytest_siren.serving.bridge [URL]``, where ``SIREN_MCP_URL`` stands for the address.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from mcp import Client
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
)

_Context = ServerRequestContext[Any, Any]


async def bridge(url: str) -> None:
    """Pass on what is asked on standard input, until that is closed."""
    async with Client(url) as run:

        async def list_tools(
            context: _Context, params: PaginatedRequestParams | None
        ) -> ListToolsResult:
            return await run.list_tools()

        async def call_tool(context: _Context, params: CallToolRequestParams) -> CallToolResult:
            return await run.call_tool(params.name, params.arguments)

        server: Server[Any] = Server(
            "pytest-siren", on_list_tools=list_tools, on_call_tool=call_tool
        )
        async with stdio_server() as (reading, writing):
            await server.run(reading, writing, server.create_initialization_options())


def main() -> None:
    """Serve the run that the first argument, or else ``SIREN_MCP_URL``, names."""
    url = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("SIREN_MCP_URL")
    if not url:
        sys.exit("usage: python -m pytest_siren.serving.bridge URL (or set SIREN_MCP_URL)")
    asyncio.run(bridge(url))


if __name__ == "__main__":
    main()
