"""What is served of one run: its addresses, its variables, and what its endpoint remembers."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mcp_types import ListToolsResult, Tool
from opentelemetry.trace import format_span_id, format_trace_id, get_current_span
from pydantic_ai.messages import ModelMessage

from pytest_siren.evaluation.world import World
from pytest_siren.serving.exchange import Memory
from pytest_siren.serving.traces import readable

LOOPBACK = "127.0.0.1"
_COLLECTOR = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_LONGEST = 100_000
"""Bytes of a prompt in a variable: Linux starts no program with one of more than 128 KiB."""


@dataclass(eq=False)
class Served:
    """The addresses of one run. Whoever knows one of them acts in that run, and in no other."""

    world: World
    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    memory: Memory = field(init=False)
    responses: dict[str, tuple[ModelMessage, ...]] = field(default_factory=dict)
    """Conversations by the ids of OpenAI's responses that they end with."""
    clients: set[tuple[str, int]] = field(default_factory=set)
    """Addresses that requests to this run have come from."""
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    """Requests that are being answered."""

    def __post_init__(self) -> None:
        self.memory = Memory.of_tools(self.world.tools)

    @property
    def url(self) -> str:
        """What all addresses of the run begin with."""
        return f"http://{LOOPBACK}:{self.port}/{self.token}"

    @property
    def mcp_url(self) -> str:
        """The run's tools as an MCP server (streamable HTTP)."""
        return f"{self.url}/mcp"

    @property
    def mcp_command(self) -> list[str]:
        """A program that is the same MCP server on standard input and output."""
        return [sys.executable, "-m", "pytest_siren.serving.bridge", self.mcp_url]

    @property
    def base_url(self) -> str:
        """The run's model, for clients of OpenAI's chat completions and responses."""
        return f"{self.url}/v1"

    @property
    def anthropic_url(self) -> str:
        """The run's model, for clients of Anthropic's messages."""
        return f"{self.url}/anthropic"

    @property
    def model_name(self) -> str:
        """The name of the run's model. Whatever a request calls it, this one answers."""
        return self.world.model.model_name

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that let an agent in a process of its own find all of this.

        Programs that go through a proxy are asked not to for these addresses.
        """
        direct = {name: _with_loopback(os.environ.get(name)) for name in ("NO_PROXY", "no_proxy")}
        variables = {
            "OPENAI_BASE_URL": self.base_url,
            "OPENAI_API_KEY": self.token,
            "ANTHROPIC_BASE_URL": self.anthropic_url,
            "ANTHROPIC_API_KEY": self.token,
            "SIREN_MCP_URL": self.mcp_url,
            "SIREN_MCP_COMMAND": json.dumps(self.mcp_command),
            "SIREN_MODEL": self.model_name,
            **direct,
            **({} if _has_collector() or not readable() else export_variables(self.url)),
        }
        if (parent := traceparent()) is not None:
            variables["TRACEPARENT"] = parent
        prompt = self.world.prompt
        if len(prompt.encode()) <= _LONGEST and "\0" not in prompt:
            variables["SIREN_PROMPT"] = prompt
        return variables

    @cached_property
    def tools(self) -> ListToolsResult:
        """The tools, as MCP lists them."""
        tools = [
            Tool(
                name=tool.name,
                description=tool.description,
                input_schema=tool.parameters_json_schema,
            )
            for tool in self.world.tools
        ]
        return ListToolsResult(tools=tools)


def export_variables(url: str) -> dict[str, str]:
    """Return the variables that let OpenTelemetry's exporters send to ``url``."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    }


def _has_collector() -> bool:
    """Tell whether the user has a collector already, to which spans of agents go."""
    return any(name in os.environ for name in _COLLECTOR)


def traceparent() -> str | None:
    """Return the current span in the form of W3C's Trace Context; ``None`` where there is none."""
    context = get_current_span().get_span_context()
    if not context.is_valid:
        return None
    trace, span = format_trace_id(context.trace_id), format_span_id(context.span_id)
    return f"00-{trace}-{span}-{context.trace_flags:02x}"


def _with_loopback(names: str | None) -> str:
    known = [name for name in (names or "").split(",") if name]
    return ",".join(dict.fromkeys([*known, LOOPBACK, "localhost"]))
