"""Spans of an agent that is a service: the trace of a request tells which run they are of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_hex

from pytest_siren.evaluation.isolation import waiting
from pytest_siren.evaluation.run import current_span
from pytest_siren.evaluation.world import World
from pytest_siren.serving.shared import ServingUnavailableError, shared_server

_LOOK = 0.02
"""Seconds after which is looked again for spans that are missing."""
_SOON = "200"
"""Milliseconds for which a service gathers spans, where its own setting is 5 seconds."""


async def service_variables() -> dict[str, str]:
    """Return the variables that let a service export its spans to this process.

    Raises ``ServingUnavailableError`` where they could not be read.
    """
    server = await shared_server()
    if server is None:
        return {}
    from pytest_siren.serving.served import export_variables
    from pytest_siren.serving.traces import readable

    if not readable():
        raise ServingUnavailableError(
            "agent.config.spans needs pip install 'pytest-siren[telemetry]'"
        )
    return {"OTEL_BSP_SCHEDULE_DELAY": _SOON, **export_variables(server.traces_url)}


@asynccontextmanager
async def remote_spans(world: World, seconds: float) -> AsyncIterator[str]:
    """Yield a ``traceparent``; the spans of its trace are those of the run of ``world``.

    After the block it waits at most ``seconds`` for the one that answers the request.
    """
    current = current_span()
    trace = current.trace_id if current else token_hex(16)
    parent = current.span_id if current else token_hex(8)
    traceparent = f"00-{trace}-{parent}-01"
    log, server = world.spans, await shared_server()
    if server is None:
        yield traceparent
        return
    log.awaited = parent
    with server.traces.seen(trace, log):
        yield traceparent
        deadline = time.monotonic() + seconds
        with waiting():
            while not log.arrived and time.monotonic() < deadline:
                await asyncio.sleep(_LOOK)
