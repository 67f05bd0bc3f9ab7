"""Values that Hydra's configurations leave to the command line: ``key: ???``."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_siren.yamlpos.nodes import Node
from pytest_siren.yamlpos.problems import Problem
from pytest_siren.yamlpos.wording import KeyPath, dotted

MANDATORY = "???"


def missing(node: Node, path: KeyPath = ()) -> Iterator[Problem]:
    """Yield a problem for every value below ``node`` that is ``???`` still."""
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            yield from missing(child, (*path, key))
    elif isinstance(node.value, tuple):
        for index, child in enumerate(node.value):
            yield from missing(child, (*path, index))
    elif node.value == MANDATORY:
        key = dotted(path)
        yield node.place.problem(
            f"{key} must be given: --set {key}=VALUE ('???' marks a missing value)"
        )
