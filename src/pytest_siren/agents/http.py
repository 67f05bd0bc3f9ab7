"""The agent ``http``: a deployed agent behind an address."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AsyncExitStack
from decimal import Decimal, InvalidOperation
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx2
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_ai.usage import RequestUsage

from pytest_siren.agents.addresses import OF_MODEL, PARTS, Addresses
from pytest_siren.agents.black_box import BlackBox, ModelledConfig
from pytest_siren.agents.json_path import JsonPath, NothingThereError, look_up, quoted
from pytest_siren.agents.programs import Program
from pytest_siren.agents.remote_spans import remote_spans, service_variables
from pytest_siren.agents.retrying import REFUSALS, Persistence
from pytest_siren.agents.service import free_port, started
from pytest_siren.environments.command_line import CommandLine
from pytest_siren.environments.placeholders import fill, names_in
from pytest_siren.evaluation.components import Component
from pytest_siren.evaluation.world import World
from pytest_siren.evaluators.base import problem
from pytest_siren.models.ratelimit.retrying_model import PATIENCE
from pytest_siren.serving.shared import check_available

_TIMEOUT = httpx2.Timeout(None, connect=30.0)
"""Seconds; how long an answer may take is the limit of the run."""
_NO_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
_HEALTH = 5.0
"""Seconds in which a health check answers."""


class EndpointError(RuntimeError):
    """The endpoint did not answer, or not as it is configured; the message says what it did."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class SessionConfig(_Strict):
    """A request before that of the prompt, which opens a conversation."""

    url: str = Field(min_length=1, description="Address")
    method: str = Field(default="POST", description="Method")
    headers: dict[str, str] = Field(default_factory=dict, description="Headers")
    request: Any = Field(default=None, description="Body: JSON, or a text that is sent as it is")
    id: JsonPath = Field(description="Where its answer holds what `{session}` stands for")


class StreamConfig(_Strict):
    """An answer as server-sent events."""

    text: JsonPath = Field(description="Where the JSON of an event holds a piece of the answer")
    done: str = Field(default="[DONE]", description="Data of the last event, if there is one")


class UsageConfig(_Strict):
    """Where the answer holds what the agent's model used."""

    input_tokens: JsonPath | None = None
    output_tokens: JsonPath | None = None
    cost: JsonPath | None = Field(default=None, description="US dollars")
    model: JsonPath | None = Field(default=None, description="Name, for its list price")


class StartConfig(_Strict):
    """A program that is the endpoint, in each process of the session."""

    command: str | list[str] = Field(
        description="Program and arguments, with {port}, {folder}, {python}"
    )
    env: dict[str, str] = Field(default_factory=dict, description="Environment variables")
    patience: float = Field(default=30.0, gt=0, description="Seconds until it must be ready")


class HttpAgentConfig(ModelledConfig):
    """Configuration of the agent ``http``."""

    url: str = Field(min_length=1, description="Address that the prompt is sent to")
    method: str = Field(default="POST", description="Method of the request")
    headers: dict[str, str] = Field(
        default_factory=dict, description="Headers; secrets by `${env:NAME}`"
    )
    request: Any = Field(
        default={"prompt": "{prompt}"},
        description="Body: JSON, or a text that is sent as it is; with `{prompt}`, "
        "`{system_prompt}`, `{run}`, `{session}` and the addresses",
    )
    answer: JsonPath | None = Field(
        default=None,
        description="Where the JSON of the answer holds the text, such as "
        "`choices[0].message.content`; left out, all of the body is the text",
    )
    stream: StreamConfig | None = Field(
        default=None, description="For server-sent events: `text`, a path, and `done`"
    )
    usage: UsageConfig | None = Field(
        default=None,
        description="Paths of `input_tokens`, `output_tokens`, `cost` (US dollars) and `model`",
    )
    session: SessionConfig | None = Field(
        default=None,
        description="Request before that of the prompt: `url`, `method`, `headers`, `request`, "
        "and the path `id` of what `{session}` stands for",
    )
    health: str | None = Field(
        default=None, min_length=1, description="Address that answers GET when the agent is ready"
    )
    start: StartConfig | None = Field(
        default=None,
        description="Program that serves the agent at `{port}`: `command`, `env`, `patience` "
        "(30 seconds); started and stopped by each process of the session",
    )
    patience: float = Field(
        default=PATIENCE,
        ge=0,
        description="Seconds that a request waits, in all, to be sent again where it is refused",
    )
    spans: float | None = Field(
        default=None,
        ge=0,
        description="Seconds after the answer in which the OpenTelemetry spans of the agent may "
        "arrive; left out, they are not recorded",
    )
    max_output: int = Field(default=1_000_000, gt=0, description="Bytes of an answer")

    def names(self) -> set[str]:
        """Return the names in braces in what is sent."""
        sent = [self.url, self.headers, self.request]
        if (first := self.session) is not None:
            sent += [first.url, first.headers, first.request]
        return names_in(sent)

    @model_validator(mode="after")
    def _consistent(self) -> HttpAgentConfig:
        if self.start is not None and "port" not in names_in(self.url):
            raise problem(
                "url has no {port}: each process of the session starts a service of its own"
            )
        if self.start is None and "port" in names_in([self.url, self.health]):
            raise problem("url has a {port}, and there is no start")
        if self.stream is not None and self.answer is not None:
            raise problem("give answer or stream, not both")
        if self.model is not None and not self.names() & set(OF_MODEL):
            raise problem("model has no effect: no {base_url} or {anthropic_url} in the request")
        if self.session is None and "session" in names_in([self.url, self.request]):
            raise problem("there is a {session} in the request, and no session")
        return self


class HttpAgent(BlackBox):
    """Sends the prompt to an endpoint, which is started and stopped if the file says how."""

    def __init__(self, config: HttpAgentConfig, base: Path) -> None:
        super().__init__(config)
        self._config = config
        self._start = (
            CommandLine.of(config.start.command, base, "agent.config.start.command")
            if config.start
            else None
        )
        self.sources = self._start.files if self._start else ()
        self._is_served = bool(config.names() & set(PARTS))
        if self._is_served:
            check_available()
        self._open = AsyncExitStack()
        self._service: Program | None = None
        self._client: httpx2.AsyncClient | None = None
        self._process: dict[str, str] = {}
        """What placeholders stand for in all runs of this process."""

    @property
    def spoken_name(self) -> str:
        return self._config.url

    async def warm(self) -> None:
        """Start the service, and wait until it is ready. Raises where it is not."""
        client = await self._connected()
        config = self._config
        if config.start is not None and self._start is not None:
            self._process["port"] = str(free_port())
            variables = {} if config.spans is None else await service_variables()
            self._service = await self._open.enter_async_context(
                started(
                    self._start,
                    self._process,
                    {**variables, **fill(config.start.env, self._process)},
                    lambda: self._unready(client),
                    config.start.patience,
                )
            )
        elif config.health is not None and (why := await self._unready(client)):
            raise EndpointError(f"the agent is not ready: {why}")

    async def aclose(self) -> None:
        """Stop the service and close all connections."""
        await self._open.aclose()

    async def answer(self, world: World, addresses: Addresses) -> object:
        """Return what the endpoint answers. Raises ``EndpointError``."""
        client = await self._connected()
        parts = {
            **self._process,
            "prompt": world.prompt,
            "system_prompt": world.system_prompt or "",
            "run": token_hex(16),
        }
        if self._is_served:
            parts |= await addresses.parts()
        if (seconds := self._config.spans) is None:
            return await self._exchanged(client, world, parts, {})
        async with remote_spans(world, seconds) as parent:
            return await self._exchanged(client, world, parts, {"traceparent": parent})

    async def _exchanged(
        self,
        client: httpx2.AsyncClient,
        world: World,
        parts: dict[str, str],
        headers: Mapping[str, str],
    ) -> str:
        """Return what the endpoint answers to requests with ``headers`` in addition."""
        config = self._config
        if config.session is not None:
            opened = await self._sent(client, config.session, parts, _apart(headers), world)
            document = _json(opened, config.session.url)
            parts["session"] = str(_found(config.session.id, document, "agent.config.session.id"))
        answer = await self._sent(client, config, parts, headers, world)
        if config.stream is not None or (config.answer is None and config.usage is None):
            return answer
        document = _json(answer, config.url)
        if config.usage is not None:
            usage, model = _usage(config.usage, document)
            world.count(usage, model)
        if config.answer is None:
            return answer
        found = _found(config.answer, document, "agent.config.answer")
        return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)

    async def _connected(self) -> httpx2.AsyncClient:
        if self._client is None:
            client = httpx2.AsyncClient(timeout=_TIMEOUT, limits=_NO_LIMITS)
            self._client = await self._open.enter_async_context(client)
        return self._client

    async def _unready(self, client: httpx2.AsyncClient) -> str | None:
        """Return why the endpoint is not ready; ``None`` if it is.

        Without an address for that, any answer at all of the endpoint's own will do.
        """
        url = fill(self._config.health or self._config.url, self._process)
        try:
            answer = await client.get(url, timeout=_HEALTH)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            return f"GET {url}: {_why(error)}"
        if self._config.health is not None and answer.is_error:
            return f"GET {url} answered {answer.status_code}"
        return None

    async def _sent(
        self,
        client: httpx2.AsyncClient,
        request: SessionConfig | HttpAgentConfig,
        parts: Mapping[str, str],
        headers: Mapping[str, str],
        world: World,
    ) -> str:
        """Return the text of the answer to ``request``. Raises ``EndpointError``.

        It is sent again where the endpoint refuses it, or cannot be reached.
        """
        tries = Persistence(self._config.patience, world.stage.retries)
        async for attempt in tries.attempts():
            with attempt:
                return await self._tried(client, request, parts, headers, tries)
        raise AssertionError("the last attempt has returned or raised")

    async def _tried(
        self,
        client: httpx2.AsyncClient,
        request: SessionConfig | HttpAgentConfig,
        parts: Mapping[str, str],
        more_headers: Mapping[str, str],
        tries: Persistence,
    ) -> str:
        """Send once. Raises ``SendAgain`` when another try may succeed, else ``EndpointError``."""
        url, method = fill(request.url, parts), fill(request.method, parts)
        body = fill(request.request, parts)
        headers = {**more_headers, **fill(request.headers, parts)}
        content = body.encode() if isinstance(body, str) else None
        what = f"{method} {_without_query(url)}"
        stream = request.stream if isinstance(request, HttpAgentConfig) else None
        try:
            async with client.stream(
                method,
                url,
                headers=headers,
                content=content,
                json=None if content is not None else body,
            ) as answer:
                if answer.is_error:
                    said = quoted(await self._body(answer))
                    error = EndpointError(f"{what} answered {answer.status_code}: {said}")
                    if answer.status_code in REFUSALS:
                        tries.refused(error, answer.status_code, answer.headers)
                    raise error
                if stream is not None:
                    return await self._streamed(answer, stream)
                return await self._body(answer)
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as failed:
            ended = await self._end_of_service()
            error = EndpointError(f"{what}: {_why(failed)}{ended}")
            error.__cause__ = failed
            if isinstance(failed, httpx2.ConnectError) and not ended:
                tries.unreached(error)
            raise error from failed
        except ValueError as failed:
            # What cannot stand in a header, such as a line break of a prompt.
            raise EndpointError(f"{what}: {failed}") from failed

    async def _body(self, answer: httpx2.Response) -> str:
        parts, size = list[str](), 0
        async for part in answer.aiter_text():
            parts.append(part)
            size += len(part)
            self._check_size(size)
        return "".join(parts)

    async def _streamed(self, answer: httpx2.Response, stream: StreamConfig) -> str:
        """Return the pieces of a stream of events. Raises ``EndpointError``, also for none."""
        pieces, size = list[str](), 0
        async for event in httpx2.EventSource(answer, self._config.max_output):
            if event.data.strip() == stream.done:
                break
            try:
                piece = look_up(stream.text, json.loads(event.data))
            except NothingThereError:
                continue  # an event of another kind
            except ValueError:
                raise EndpointError(f"an event is no JSON: {quoted(event.data)}") from None
            pieces.append(piece if isinstance(piece, str) else "")
            size += len(pieces[-1])
            self._check_size(size)
        if not pieces:
            raise EndpointError(f"no event has a piece of text at {stream.text}")
        return "".join(pieces)

    def _check_size(self, size: int) -> None:
        if size > self._config.max_output:
            raise EndpointError(
                f"the answer is longer than {self._config.max_output:,} bytes "
                "(agent.config.max_output)"
            )

    async def _end_of_service(self) -> str:
        """Return what to say of a service that has ended by itself."""
        if self._service is None or not await self._service.wait(_NOTICED):
            return ""
        return f"; {self._service.name} has ended{self._service.errors}"


_NOTICED = 0.5
"""Seconds after the end of a connection in which a service is seen to have ended."""


def _json(text: str, url: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise EndpointError(f"{_without_query(url)} answered no JSON: {quoted(text)}") from None


def _found(path: str, document: Any, key: str) -> Any:
    """Return what is at ``path``. Raises ``EndpointError`` where nothing is."""
    try:
        found = look_up(path, document)
    except NothingThereError as error:
        raise EndpointError(f"the answer has {error} ({key})") from None
    if found is None:
        raise EndpointError(f"the answer has null at {path} ({key})")
    return found


def _usage(config: UsageConfig, document: Any) -> tuple[RequestUsage, str | None]:
    """Return tokens and cost, and the name of the model. Raises ``EndpointError``."""

    def number(key: str) -> Decimal | None:
        path = getattr(config, key)
        if path is None:
            return None
        found = _found(path, document, f"agent.config.usage.{key}")
        try:
            return Decimal(str(found))
        except InvalidOperation:
            raise EndpointError(f"{path} is no number: {quoted(str(found))}") from None

    usage = RequestUsage(
        input_tokens=int(number("input_tokens") or 0),
        output_tokens=int(number("output_tokens") or 0),
    )
    usage.cost = number("cost")
    model = config.model and _found(config.model, document, "agent.config.usage.model")
    return usage, None if model is None else str(model)


def _why(error: Exception) -> str:
    """Return what a library says of a connection, which may be nothing at all."""
    return quoted(str(error)) or type(error).__name__


def _apart(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return ``headers`` with another parent in the same trace, for a request before the one."""
    if (given := headers.get("traceparent")) is None:
        return headers
    version, trace, _, flags = given.split("-")
    return {**headers, "traceparent": f"{version}-{trace}-{token_hex(8)}-{flags}"}


def _without_query(url: str) -> str:
    return url.partition("?")[0]


def _asks_for_model(config: Mapping[str, Any]) -> bool:
    return bool(names_in(config) & set(OF_MODEL))


component = Component(
    HttpAgentConfig,
    lambda config, base: HttpAgent(config, base),
    needs_model=False,
    optional_model=_asks_for_model,
)
