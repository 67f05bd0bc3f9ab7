"""The tools of all served runs as MCP servers, each at the address of its run."""

from __future__ import annotations

from collections.abc import MutableMapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
)
from starlette.types import Receive, Scope, Send

from pytest_siren.serving.exchange import RefusedError
from pytest_siren.serving.failures import refusal_for
from pytest_siren.serving.served import Served
from pytest_siren.version import __version__

_SERVED = "pytest_siren.served"
"""Key in the ASGI scope of a request: the run that it is for."""

Context = ServerRequestContext[Any, Any]


class ToolServer:
    """Answers MCP's requests for the tools of whichever run they are for.

    No request depends on an earlier one, so that no session, stream or task is left of a client
    that goes away.
    """

    def __init__(self, most_bytes: int) -> None:
        """``most_bytes`` is the size of the largest request."""
        server: Server[Any] = Server(
            "pytest-siren",
            version=__version__,
            # The tools of a run have no headers of their own that would have to be checked.
            get_tool_input_schema=lambda name: None,
            on_list_tools=_list_tools,
            on_call_tool=_call_tool,
        )
        self._manager = StreamableHTTPSessionManager(
            server, json_response=True, stateless=True, max_request_body_size=most_bytes
        )

    def run(self) -> AbstractAsyncContextManager[None]:
        """Return a context in which requests are answered. It can be entered once."""
        return self._manager.run()

    async def answer(self, served: Served, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for the tools of ``served``. Raises ``RefusedError`` for GET."""
        if scope["method"] != "POST":
            raise RefusedError(405, "this MCP server sends nothing on its own: POST requests to it")
        scoped: MutableMapping[str, Any] = {**scope, _SERVED: served}
        await self._manager.handle_request(scoped, receive, send)


async def _list_tools(context: Context, params: PaginatedRequestParams | None) -> ListToolsResult:
    return _served(context).tools


async def _call_tool(context: Context, params: CallToolRequestParams) -> CallToolResult:
    world = _served(context).world
    try:
        outcome = await world.call(params.name, params.arguments)
    except Exception as error:
        refused = refusal_for(error)
        code = INVALID_REQUEST if refused.status < 500 else INTERNAL_ERROR
        raise MCPError(code, refused.message) from error
    return CallToolResult(
        content=[TextContent(type="text", text=outcome.text)], is_error=outcome.error
    )


def _served(context: Context) -> Served:
    assert context.request is not None
    served: Served = context.request.scope[_SERVED]
    return served
