"""The tools of a run as plain Python functions, with the signatures that their schemas say."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Union

from pydantic_ai.tools import ToolDefinition

from pytest_siren.evaluation.world import World

_TYPES: Mapping[str, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "null": None,
    "object": dict[str, Any],
    "array": list[Any],
}


def callables(world: World, *, blocking: bool) -> list[Callable[..., Any]]:
    """Return the tools of ``world``: coroutine functions or, if ``blocking``, plain ones.

    A function takes the arguments of the tool, mostly by keyword, and returns the text of its
    result, or of its error. It has the name, the docstring and the annotations from which
    frameworks read schemas, and the dataset's own JSON schema as ``schema``. A plain one blocks the
    thread that it is called in, which must not be that of the event loop.
    """
    loop = asyncio.get_running_loop() if blocking else None
    return [_function(world, tool, loop) for tool in world.tools]


def _function(
    world: World, tool: ToolDefinition, loop: asyncio.AbstractEventLoop | None
) -> Callable[..., Any]:
    signature, on_loop = _signature(tool), threading.get_ident()

    async def call(*args: Any, **kwargs: Any) -> str:
        return (await world.call(tool.name, _arguments(signature, args, kwargs))).text

    def call_and_wait(*args: Any, **kwargs: Any) -> str:
        assert loop is not None
        if threading.get_ident() == on_loop:
            raise RuntimeError(
                f"{tool.name} blocks the thread of the event loop, where it can never end: "
                "let an async function be the agent"
            )
        return asyncio.run_coroutine_threadsafe(call(*args, **kwargs), loop).result()

    function: Any = call if loop is None else call_and_wait
    function.__name__ = function.__qualname__ = tool.name
    function.__doc__ = _docstring(tool)
    function.__signature__ = signature
    function.__annotations__ = {
        **{name: one.annotation for name, one in signature.parameters.items()},
        "return": str,
    }
    function.schema = tool.parameters_json_schema
    return function  # type: ignore[no-any-return]


def _arguments(
    signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Return the arguments by name; what does not fit is left for the tool to refuse."""
    named = dict(zip(signature.parameters, args, strict=False))
    return {**named, **kwargs}


def _docstring(tool: ToolDefinition) -> str:
    """Return the description, with the parameters as Google's style has them."""
    described = {
        name: " ".join(str(part["description"]).split())
        for name, part in _properties(tool).items()
        if isinstance(part, Mapping) and part.get("description")
    }
    lines = [tool.description or tool.name]
    if described:
        lines += ["", "Args:", *(f"    {name}: {text}" for name, text in described.items())]
    return "\n".join(lines)


def _signature(tool: ToolDefinition) -> inspect.Signature:
    required = set(tool.parameters_json_schema.get("required", ()))
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=inspect.Parameter.empty if name in required else _default(part),
            annotation=_annotation(part, tool.parameters_json_schema, name in required),
        )
        for name, part in _properties(tool).items()
        if name.isidentifier()
    ]
    parameters.sort(key=lambda one: one.default is not inspect.Parameter.empty)
    return inspect.Signature(parameters, return_annotation=str)


def _properties(tool: ToolDefinition) -> Mapping[str, Any]:
    found = tool.parameters_json_schema.get("properties")
    return found if isinstance(found, Mapping) else {}


def _default(part: Any) -> Any:
    return part.get("default") if isinstance(part, Mapping) else None


def _annotation(part: Any, root: Mapping[str, Any], required: bool) -> Any:
    found = _type_of(part, root, depth=0)
    optional = not required and _default(part) is None and found is not Any
    return _either((found, None)) if optional else found


_DEEPEST = 8
"""Levels of a schema that annotations follow."""


def _type_of(part: Any, root: Mapping[str, Any], depth: int) -> Any:
    if not isinstance(part, Mapping) or depth > _DEEPEST:
        return Any
    if isinstance(reference := part.get("$ref"), str):
        return _type_of(_referred(reference, root), root, depth + 1)
    choices = part.get("enum")
    if choices and all(isinstance(one, str | int | bool) or one is None for one in choices):
        return Literal[tuple(choices)]
    for key in ("anyOf", "oneOf"):
        if part.get(key):
            return _either(_type_of(one, root, depth + 1) for one in part[key])
    kind = part.get("type")
    if isinstance(kind, list):
        return _either(_type_of({**part, "type": one}, root, depth + 1) for one in kind)
    if kind == "array":
        return list[_type_of(part.get("items"), root, depth + 1)]  # type: ignore[misc]
    return _TYPES.get(kind, Any) if isinstance(kind, str) else Any


def _either(kinds: Iterable[Any]) -> Any:
    """Return the union of ``kinds``, which are values here."""
    found = tuple(kinds)
    return Union[found] if found else Any  # noqa: UP007


def _referred(reference: str, root: Mapping[str, Any]) -> Any:
    found: Any = root
    for step in reference.removeprefix("#/").split("/"):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found
