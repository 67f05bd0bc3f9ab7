"""Finds the components that an eval file names and validates their configs."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires
from typing import Any

from pydantic import BaseModel, ValidationError

from pytest_siren.evaluation.components import Component, Kind, Registry, UnknownComponentError
from pytest_siren.spec.errors import Problem
from pytest_siren.spec.jobspec import ComponentSpec
from pytest_siren.spec.translate import problems_of
from pytest_siren.spec.wording import KeyPath
from pytest_siren.yamlpos.nodes import Node

_DISTRIBUTION = "pytest-siren"
_OPTIONAL = re.compile(r"""([\w.-]+).*\bextra\s*==\s*['"]([\w.-]+)['"]""")


class UnusableComponentError(LookupError):
    """A component is unknown or cannot be loaded; the message says why and what to do."""


class Components:
    """The components of one eval file; each is found, and each config validated, once."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.problems: list[Problem] = []
        self._validated: dict[tuple[Kind, int, str | None], tuple[Node, ComponentSpec | None]] = {}

    def find(self, kind: Kind, name: str) -> Component:
        """Return the component. Raises ``UnusableComponentError``."""
        try:
            return self.registry.find(kind, name)
        except UnknownComponentError as error:
            raise UnusableComponentError(str(error)) from error
        except (ImportError, AttributeError, TypeError) as error:
            message = f"the {kind.value.removesuffix('s')} {name!r} cannot be loaded: {error}"
            raise UnusableComponentError(f"{message}{_remedy(error)}") from error

    def schema(self, kind: Kind, name: Any) -> type[BaseModel] | None:
        """Return the schema of a component's config; ``None`` where there is no such component."""
        try:
            return self.find(kind, name).config if isinstance(name, str) else None
        except UnusableComponentError:
            return None  # whoever uses the component reports why

    def spec(
        self, kind: Kind, section: Node, at: KeyPath, model: str | None = None
    ) -> ComponentSpec | None:
        """Return the validated component of ``section``, a mapping with ``type`` and ``config``.

        ``at`` is where messages say that the section stands. ``model`` is filled in as the config's
        key of that name. What is wrong is added to ``problems``, and then there is no spec. A
        section whose own keys have wrong types is left to the schema of the eval file.
        """
        known = (kind, id(section), model)
        if known not in self._validated:
            # The section is kept with its spec so that its id stays its own.
            self._validated[known] = (section, self._validate(kind, section, at, model))
        return self._validated[known][1]

    def _validate(
        self, kind: Kind, section: Node, at: KeyPath, model: str | None
    ) -> ComponentSpec | None:
        kind_node, config = section.child("type"), section.child("config")
        if kind_node is None or not isinstance(kind_node.value, str) or not kind_node.value:
            return None
        if config is None or config.value is None:
            config = Node({}, section.place)
        if not isinstance(config.value, dict):
            return None
        try:
            component = self.find(kind, kind_node.value)
        except UnusableComponentError as error:
            self.problems.append(kind_node.place.problem(str(error)))
            return None
        raw = config.plain()
        given = dict(raw)
        if model is not None:
            raw["model"] = model
            given.pop("model", None)
            if "model" in component.config.model_fields:
                given["model"] = model
        try:
            validated = component.config.model_validate(given)
        except ValidationError as error:
            found = problems_of(error, component.config, given, config, (*at, "config"))
            self.problems += found
            return None
        return ComponentSpec(kind_node.value, validated, raw)


def _remedy(error: Exception) -> str:
    if not isinstance(error, ImportError) or not error.name or "pip install" in str(error):
        return ""
    missing = error.name.partition(".")[0].lower()
    extras = [(len(brought), extra) for extra, brought in _extras().items() if missing in brought]
    # An extra for developers brings what others bring, and more.
    return f"; install it with: pip install '{_DISTRIBUTION}[{min(extras)[1]}]'" if extras else ""


def _extras() -> dict[str, set[str]]:
    """Return the extras of this distribution, each with the packages that it brings."""
    try:
        requirements = requires(_DISTRIBUTION) or []
    except PackageNotFoundError:
        return {}
    extras: dict[str, set[str]] = {}
    for requirement in requirements:
        if found := _OPTIONAL.match(requirement):
            extras.setdefault(found[2], set()).add(found[1].lower().replace("-", "_"))
    return extras
