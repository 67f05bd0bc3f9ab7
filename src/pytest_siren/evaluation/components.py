"""Parts that eval files and options name, found by name: conftest first, then entry points."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol, TypeGuard, TypeVar, cast

from pydantic import BaseModel, ConfigDict

from pytest_siren.text.words import nearest, suggestion


class Kind(StrEnum):
    """The kinds of components; the value is the end of the entry-point group's name."""

    DATASET = "datasets"
    ATTACK = "attacks"
    AGENT = "agents"
    MODEL = "models"
    SANDBOX = "sandboxes"
    EVALUATOR = "evaluators"
    REPORT = "reports"

    @property
    def noun(self) -> str:
        """What one of them is called."""
        match self:
            case Kind.SANDBOX:
                return "sandbox"
            case Kind.REPORT:
                return "report format"
        return self.value.removesuffix("s")


@dataclass(frozen=True)
class Component:
    """A named part that an eval file can ask for.

    ``build`` receives the validated ``config`` and the folder that relative paths in it start from.
    A model's ``config`` has one field, ``argument``: what stands after the colon in its name.
    """

    config: type[BaseModel]
    build: Callable[[Any, Path], Any]
    needs_model: bool = True
    """Of an agent: whether its jobs have a model. ``False`` for rules, and for services that have
    a model of their own."""


class NoConfig(BaseModel):
    """The configuration of a component that has none."""

    model_config = ConfigDict(extra="forbid")


class UnknownComponentError(LookupError):
    """No component of that kind has that name."""

    def __init__(self, kind: Kind, name: str, known: list[str]) -> None:
        self.kind, self.name, self.known = kind, name, known
        self.nearest = nearest(name, known)
        hint = suggestion(name, known)
        super().__init__(f"unknown {kind.noun} {name!r}{hint}; known: {', '.join(known)}")


@cache
def _all_installed() -> dict[Kind, dict[str, EntryPoint]]:
    # The files of all installed packages are read once, not once for each kind.
    found = entry_points()
    return {
        kind: {point.name: point for point in found.select(group=f"pytest_siren.{kind}")}
        for kind in Kind
    }


def _installed(kind: Kind) -> dict[str, EntryPoint]:
    return _all_installed()[kind]


@dataclass
class Registry:
    """Looks components up by name."""

    _registered: dict[tuple[Kind, str], Component] = field(default_factory=dict)
    _loaded: dict[tuple[Kind, str], Component] = field(default_factory=dict)
    """Installed ones: a dataset of 100,000 tasks asks for its evaluators as often."""

    def add(self, kind: Kind, name: str, component: Component) -> None:
        """Register ``component``; it hides an installed one of the same name."""
        self._registered[kind, name] = component

    def names(self, kind: Kind) -> list[str]:
        """Return all names of a kind, sorted. Imports none of them."""
        own = {name for registered, name in self._registered if registered is kind}
        return sorted(own | set(_installed(kind)))

    def find(self, kind: Kind, name: str) -> Component:
        """Return the component. Raises ``UnknownComponentError``, or what importing it raises."""
        if (kind, name) in self._registered:
            return self._registered[kind, name]
        if (kind, name) in self._loaded:
            return self._loaded[kind, name]
        if point := _installed(kind).get(name):
            component = point.load()
            if not isinstance(component, Component):
                raise TypeError(f"entry point {point.value} is not a pytest_siren Component")
            self._loaded[kind, name] = component
            return component
        raise UnknownComponentError(kind, name, self.names(kind))


_REGISTRY: ContextVar[Registry | None] = ContextVar("_REGISTRY", default=None)


@contextmanager
def using(registry: Registry) -> Iterator[None]:
    """Let configurations find the components that they name in ``registry`` within the block."""
    token = _REGISTRY.set(registry)
    try:
        yield
    finally:
        _REGISTRY.reset(token)


def current_registry() -> Registry:
    """Return the registry of the block; outside of any, one of the installed components."""
    return _REGISTRY.get() or Registry()


_P = TypeVar("_P")


def implements(part: object, protocol: type[_P]) -> TypeGuard[_P]:
    """Tell whether ``part`` has all members of ``protocol``, as ``isinstance`` does.

    Python 3.11 looks for the members of a protocol anew each time, which is a twentieth of a run
    whose model answers at once.
    """
    return all(hasattr(part, name) for name in _members(cast(Hashable, protocol)))


@cache
def _members(protocol: Hashable) -> tuple[str, ...]:
    """Return the names that ``protocol`` and the protocols that it extends define."""
    names = {
        name
        for base in getattr(protocol, "__mro__", ())
        if base is not Protocol and getattr(base, "_is_protocol", False)
        for name in (*vars(base), *vars(base).get("__annotations__", ()))
        if not name.startswith("_")
    }
    return tuple(sorted(names))
