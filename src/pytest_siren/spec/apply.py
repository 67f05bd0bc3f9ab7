"""Applies the command line to the tree of an eval file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pytest_siren.evaluation.components import Kind
from pytest_siren.spec.components import Components
from pytest_siren.spec.errors import Problem
from pytest_siren.spec.overrides import Action, Change, Override
from pytest_siren.spec.schema import AttackSection, EvalFile
from pytest_siren.spec.schemakeys import accepts, keys_at
from pytest_siren.spec.selection import Selection
from pytest_siren.spec.wording import KeyPath, dotted, suggestion, within
from pytest_siren.spec.wording import shown as as_shown
from pytest_siren.yamlpos.nodes import (
    Node,
    NotAMappingError,
    Place,
    moved,
    node_of,
    with_value,
    without,
)

_MODEL: KeyPath = ("agent", "config", "model")
_CONCURRENCY: KeyPath = ("execution", "concurrency")
_RUNS_ALIAS: KeyPath = ("execution", "n_runs_per_task")
_OPTIONS: dict[str, tuple[str, tuple[KeyPath, ...]]] = {
    "agents": ("--agent", (("agent", "type"),)),
    "models": ("--model", (_MODEL,)),
    "runs": ("--runs", (("runs",), _RUNS_ALIAS)),
    "task_ids": ("--task-ids", (("task_ids",),)),
    "concurrency": ("--concurrency", (_CONCURRENCY,)),
}
"""Fields of a selection, each with its option and the keys that it writes."""

_FILE_COMPONENTS: Mapping[KeyPath, Kind] = {("dataset",): Kind.DATASET, ("agent",): Kind.AGENT}
_ATTACK_COMPONENT: Mapping[KeyPath, Kind] = {(): Kind.ATTACK}


def conflicts(selection: Selection, overrides: Sequence[Override]) -> list[Problem]:
    """Return a problem for every key that both an option of its own and ``--set`` give."""
    return [
        override.place.problem(f"{option} gives {dotted(path)} too; give it once")
        for name, (option, paths) in _OPTIONS.items()
        for path in paths
        for override in overrides
        if getattr(selection, name) not in ((), None) and override.path == path
    ]


def with_options(
    root: Node, selection: Selection, agent: str | None, model: str | None, file: Path
) -> Node:
    """Return ``root`` with what the options other than ``--set`` say.

    Another agent than the file's keeps the file's model and nothing else of its config.
    """
    current = root.at(("agent", "type"))
    if agent is not None and (current is None or agent != current.value):
        place = Place(file, None, f"--agent {agent}")
        file_model = root.at(_MODEL)
        root = with_value(root, ("agent",), node_of({"type": agent}, place))
        if file_model is not None:
            root = with_value(root, _MODEL, file_model)
    if model is not None:
        root = _option(root, _MODEL, model, "--model", file)
    if selection.runs is not None:
        if root.at(_RUNS_ALIAS) is not None:
            root = without(root, _RUNS_ALIAS)
        root = _option(root, ("runs",), selection.runs, "--runs", file)
    if selection.task_ids:
        task_ids = list(dict.fromkeys(selection.task_ids))
        root = _option(root, ("task_ids",), task_ids, "--task-ids", file)
    if selection.concurrency is not None:
        root = _option(root, _CONCURRENCY, selection.concurrency, "--concurrency", file)
    elif selection.default_concurrency is not None and root.at(_CONCURRENCY) is None:
        default = selection.default_concurrency
        root = _option(root, _CONCURRENCY, default, "siren_concurrency", file)
    return root


def _option(root: Node, path: KeyPath, value: Any, option: str, file: Path) -> Node:
    text = ",".join(value) if isinstance(value, list) else value
    node = node_of(value, Place(file, None, f"{option} {text}"))
    try:
        return with_value(root, path, node)
    except NotAMappingError:
        return root  # the schema reports the section that is no mapping


def apply_to_file(root: Node, change: Change, components: Components) -> Node:
    """Return the tree of an eval file with ``change`` made; problems go to ``components``."""
    return _apply(root, change, 0, EvalFile, _FILE_COMPONENTS, components)


def apply_to_attack(section: Node, change: Change, components: Components) -> Node:
    """Return an attack's section with ``change`` made, whose path begins with ``attack``."""
    return _apply(section, change, 1, AttackSection, _ATTACK_COMPONENT, components)


def _apply(
    root: Node,
    change: Change,
    start: int,
    schema: type[BaseModel],
    sections: Mapping[KeyPath, Kind],
    components: Components,
) -> Node:
    override = change.override
    path = _fitted(root, override.path[start:])
    problem: str | None = None
    if override.action is Action.DELETE:
        if root.at(path) is not None:
            return without(root, path)
        problem = f"there is no {override.path[-1]!r} to delete{within(override.path[:-1])}"
    elif override.action is Action.SET:
        problem = _unknown(root, path, schema, sections, components, override.path[:start])
    if problem is None and change.choice is not None:
        try:
            return with_value(root, path, moved(change.choice.node, override.place))
        except NotAMappingError as error:
            above = override.path[: start + len(error.path)]
            problem = f"{dotted(above)} is neither a mapping nor has it such an item"
    components.problems.append(override.place.problem(problem or ""))
    return root


def _fitted(root: Node, path: Sequence[str]) -> KeyPath:
    """Return ``path`` with numbers where it leads into lists."""
    node: Node | None = root
    fitted: list[str | int] = []
    for part in path:
        index = node is not None and isinstance(node.value, tuple) and part.isdecimal()
        fitted.append(int(part) if index else part)
        node = node.child(fitted[-1]) if node else None
    return tuple(fitted)


def _unknown(
    root: Node,
    path: KeyPath,
    schema: type[BaseModel],
    sections: Mapping[KeyPath, Kind],
    components: Components,
    above: KeyPath,
) -> str | None:
    """Return what to say of the first key of ``path`` that neither file nor schema has."""
    for depth in range(1, len(path) + 1):
        if root.at(path[:depth]) is not None or (*above, *path[:depth]) == _MODEL:
            continue
        relative = path[:depth]
        inner = _component_schema(root, relative, sections, components)
        governing, relative = inner or (schema, relative)
        if governing is None or accepts(governing, relative):
            continue
        parent = root.at(path[: depth - 1])
        present = parent.value if parent and isinstance(parent.value, dict) else {}
        known = sorted({*(keys_at(governing, relative[:-1], {}) or ()), *present})
        key = str(path[depth - 1])
        where = within((*above, *path[: depth - 1]))
        return f"unknown key {as_shown(key)}{where}{suggestion(key, known)}; +KEY=VALUE adds a key"
    return None


def _component_schema(
    root: Node, path: KeyPath, sections: Mapping[KeyPath, Kind], components: Components
) -> tuple[type[BaseModel] | None, KeyPath] | None:
    """Return the schema that governs ``path`` when it lies in a component's config.

    It is ``None`` for a component that cannot be used, which is reported elsewhere.
    """
    for section, kind in sections.items():
        inside = len(section) + 1
        if len(path) > inside and path[:inside] == (*section, "config"):
            name = root.at((*section, "type"))
            return components.schema(kind, name.value if name else None), path[inside:]
    return None
