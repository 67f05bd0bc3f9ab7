"""Fills in ``${env:VAR}`` and ``${env:VAR,default}``: after parsing, never in tasks or attacks.

``${oc.env:VAR}`` means the same; other resolvers of OmegaConf and Hydra are problems.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pytest_siren.spec.errors import Problem
from pytest_siren.spec.wording import KeyPath, dotted, shown
from pytest_siren.yamlpos.nodes import Node, Scalar, branch
from pytest_siren.yamlpos.scalars import resolve

_DATASET_TEXTS = ("tasks", "malicious_tasks", "vectors")
_ATTACK_TEXTS = ("attack_template", "attacks", "attacks_by_task")
"""Keys of configs whose texts models read: they must not be able to read the environment."""

_OPENING = "${"
_REDACTED = "<redacted>"
"""Stands in the configurations of recorded jobs in the place of a secret."""
_WITH_SECRETS = (("agent",), ("dataset",), ("attack",), ("attacks",), ("sandbox_manager",))
_ENVIRONMENT = re.compile(
    r"\$\{(env|oc\.env):\s*([A-Za-z_][A-Za-z0-9_]*)\s*(?:,((?:[^$}]|\$(?!\{))*))?\}"
)
_RESOLVER = re.compile(r"\$?\$\{\s*([A-Za-z_][\w.-]*):[^}]*\}?")
"""``${name:...}``; with another dollar sign before it, it is text."""
_OTHER_KEY = re.compile(r"\$?\$\{\s*[A-Za-z_]\w*(?:\.\w+|\[\w+\])+\s*\}")
"""``${output.jobs_dir}``, which stands for the value of another key there."""
_LONE = re.compile(r"\$\{\s*\.*[A-Za-z_]\w*\s*\}")
_SKIPPED: KeyPath = ("hydra",)
"""Hydra's own configuration, which has no effect here and is full of resolvers of its own."""


def interpolated(
    node: Node, environ: Mapping[str, str], problems: list[Problem], path: KeyPath = ()
) -> Node:
    """Return ``node`` with its strings filled in; what cannot be filled is added to ``problems``.

    A string that is one reference and nothing else becomes the YAML scalar that the variable's
    value writes: a number, ``true``, ``null``, or text. It is never parsed further. ``$${env:`` is
    the text ``${env:``.
    """
    if _is_text_of_the_evaluation(path) or path[:1] == _SKIPPED:
        return node
    if isinstance(node.value, dict):
        entries = {
            key: interpolated(child, environ, problems, (*path, key))
            for key, child in node.value.items()
        }
        return branch(entries, node.place)
    if isinstance(node.value, tuple):
        items = (
            interpolated(child, environ, problems, (*path, index))
            for index, child in enumerate(node.value)
        )
        return branch(tuple(items), node.place)
    if isinstance(node.value, str) and _REDACTED in node.value and path[:1] in _WITH_SECRETS:
        message = f"{dotted(path)}: the secret is not in the record: write ${{env:NAME}} for it"
        problems.append(node.place.problem(message))
    elif isinstance(node.value, str) and _OPENING in node.value:
        try:
            return Node(_filled(node.value, environ), node.place)
        except ValueError as error:
            where = f"{dotted(path)}: " if path else ""
            problems.append(node.place.problem(f"{where}{error}"))
    return node


def _is_text_of_the_evaluation(path: KeyPath) -> bool:
    texts = _DATASET_TEXTS if path[:1] == ("dataset",) else _ATTACK_TEXTS
    return len(path) > 1 and path[-2] == "config" and path[-1] in texts


def _filled(text: str, environ: Mapping[str, str]) -> Scalar:
    if text.startswith("$$") and _LONE.fullmatch(text[1:]):
        return text[1:]
    if whole := _ENVIRONMENT.fullmatch(text):
        return resolve(_value(whole, environ))
    if _LONE.fullmatch(text):
        raise ValueError(_no_reference(text))
    filled = _RESOLVER.sub(lambda found: _replacement(found, environ), text)
    return _OTHER_KEY.sub(_other_key, filled)


def _other_key(found: re.Match[str]) -> str:
    text = found.group()
    if text.startswith("$$"):
        return text[1:]
    raise ValueError(_no_reference(text))


def _no_reference(text: str) -> str:
    return (
        f"{shown(text)} is a reference of Hydra to another key, and Hydra is not used here: write "
        f"the value; $${text[1:]} is the text itself, and ${{env:NAME}} an environment variable"
    )


def _replacement(found: re.Match[str], environ: Mapping[str, str]) -> str:
    text, resolver = found.group(), found.group(1)
    if text.startswith("$$"):
        return text[1:]
    if resolver not in ("env", "oc.env"):
        raise ValueError(
            f"{shown(text)} cannot be filled in: there is no Hydra here, and only ${{env:NAME}} "
            f"and ${{oc.env:NAME}} are known; $${{{resolver}:...}} is the text itself"
        )
    reference = _ENVIRONMENT.fullmatch(text)
    if reference is None:
        raise ValueError(
            f"{shown(text)} is malformed; "
            f"write ${{{resolver}:NAME}} or ${{{resolver}:NAME,default}}"
        )
    return _value(reference, environ)


def _value(reference: re.Match[str], environ: Mapping[str, str]) -> str:
    resolver, name, default = reference.groups()
    if resolver == "oc.env" and default is not None:
        default = _unquoted(default.strip())
    value = environ.get(name, default)
    if value is None:
        raise ValueError(
            f"the environment variable {name} is not set, and {reference.group()} has no default"
        )
    return value


def _unquoted(text: str) -> str:
    """Return ``text`` without the quotes that OmegaConf's defaults may have."""
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1] if quoted else text
