"""Fills in ``${env:VAR}`` and ``${env:VAR,default}``: after parsing, never in tasks or attacks."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pytest_siren.spec.errors import Problem
from pytest_siren.spec.wording import KeyPath, dotted, shown
from pytest_siren.yamlpos.nodes import Node, Scalar, branch
from pytest_siren.yamlpos.scalars import resolve

_DATASET_TEXTS = ("tasks", "malicious_tasks", "vectors")
_ATTACK_TEXTS = ("attack_template", "attacks")
"""Keys of configs whose texts models read: they must not be able to read the environment."""

_OPENING = "${env:"
_REFERENCE = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)(?:,((?:[^$}]|\$(?!\{))*))?\}")
_ANY = re.compile(r"\$?\$\{env:[^}]*\}?")


def interpolated(
    node: Node, environ: Mapping[str, str], problems: list[Problem], path: KeyPath = ()
) -> Node:
    """Return ``node`` with its strings filled in; what cannot be filled is added to ``problems``.

    A string that is one reference and nothing else becomes the YAML scalar that the variable's
    value writes: a number, ``true``, ``null``, or text. It is never parsed further. ``$${env:`` is
    the text ``${env:``.
    """
    if _is_text_of_the_evaluation(path):
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
    if isinstance(node.value, str) and _OPENING in node.value:
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
    if whole := _REFERENCE.fullmatch(text):
        return resolve(_value(whole, environ))
    return _ANY.sub(lambda found: _replacement(found.group(), environ), text)


def _replacement(text: str, environ: Mapping[str, str]) -> str:
    if text.startswith("$$"):
        return text[1:]
    reference = _REFERENCE.fullmatch(text)
    if reference is None:
        raise ValueError(
            f"{shown(text)} is malformed; write ${{env:NAME}} or ${{env:NAME,default}}"
        )
    return _value(reference, environ)


def _value(reference: re.Match[str], environ: Mapping[str, str]) -> str:
    name, default = reference.groups()
    value = environ.get(name, default)
    if value is None:
        raise ValueError(
            f"the environment variable {name} is not set, and {reference.group()} has no default"
        )
    return value
