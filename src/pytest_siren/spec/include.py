"""Reads an eval file with the files that it includes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_siren.spec.defaults import SELF, Default, defaults_of
from pytest_siren.spec.errors import Problem
from pytest_siren.spec.interpolation import interpolated
from pytest_siren.spec.jobconfig import as_eval_file, base_of, is_job_config, recorded_config
from pytest_siren.spec.presets import as_theirs
from pytest_siren.spec.wording import shown as as_shown
from pytest_siren.yamlpos.nodes import Node, branch, merged, with_value
from pytest_siren.yamlpos.reader import read_yaml

_MAX_INCLUDES = 100
NAMED = ("attack", "dataset", "sandbox_manager")
"""Keys that may name a preset."""


@dataclass
class _Loading:
    environ: Mapping[str, str]
    problems: list[Problem] = field(default_factory=list)
    included: int = 0
    base: Path | None = None
    """What relative paths start from, where that is not the folder of the file."""


@dataclass(frozen=True)
class Tree:
    """What an eval file comes to."""

    root: Node | None
    """``None`` when it could not be read."""
    problems: list[Problem]
    base: Path
    """Folder that relative paths in configs start from."""
    recorded: bool
    """Whether it is the configuration that a job was recorded with."""


def load_tree(path: Path, shown: Path, environ: Mapping[str, str]) -> Tree:
    """Return the mapping that an eval file and its includes come to, and all problems found.

    Included files are merged in their order, then the file itself on top: mappings key by key, all
    else replaced. Variables of ``environ`` are filled in; paths in ``include`` start from the file
    that they stand in.
    """
    loading = _Loading(environ)
    root = _load(path, shown, loading, (path.resolve(),))
    return Tree(root, loading.problems, loading.base or path.parent, loading.base is not None)


def _load(path: Path, shown: Path, loading: _Loading, chain: tuple[Path, ...]) -> Node | None:
    root, problems = read_yaml(path, shown)
    loading.problems += problems
    if root is None:
        return None
    if len(chain) == 1 and is_job_config(root):
        root = recorded_config(root, path)
        loading.base = base_of(root, path, shown)
        root = as_eval_file(root)
    root = interpolated(root, loading.environ, loading.problems)
    assert isinstance(root.value, dict)
    entries = dict(root.value)
    includes, defaults = entries.pop("include", None), entries.pop("defaults", None)
    tree = branch(entries, root.place)
    below = branch({}, root.place)
    if includes is not None and includes.value is not None:
        for entry in _entries(includes, loading):
            if (under := _include(entry, path, shown, loading, chain)) is not None:
                below = merged(below, under)
    if defaults is not None and defaults.value is not None:
        tree = _composed(defaults, tree, path, shown, loading, chain)
    return merged(below, tree)


def _composed(
    defaults: Node,
    tree: Node,
    path: Path,
    shown: Path,
    loading: _Loading,
    chain: tuple[Path, ...],
) -> Node:
    """Return the files of a list ``defaults``, and ``tree``, merged in the order of the list."""
    whole = branch({}, tree.place)
    for default in defaults_of(defaults, loading.problems):
        if default.name == SELF:
            whole = merged(whole, tree)
        elif _names_preset(default, tree, path):
            assert default.group is not None
            whole = with_value(whole, (default.group,), Node(default.name, default.place.place))
        elif (found := _default(default, path, shown, loading, chain)) is not None:
            whole = merged(whole, found)
    return whole


def _names_preset(default: Default, tree: Node, path: Path) -> bool:
    """Whether ``default`` stays a name: of a preset that is built in, or of an attack.

    An attack goes by its preset's name, unless the file of ``tree`` says more of it.
    """
    if default.group not in NAMED or default.package is not None or default.optional:
        return False
    target = _existing(path.parent / default.file)
    if target is None:
        return True
    more = tree.child(default.group)
    if default.group != "attack" or (more is not None and isinstance(more.value, dict)):
        return False
    return default.path(_text(target)) == (default.group,)


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")


def _default(
    default: Default, path: Path, shown: Path, loading: _Loading, chain: tuple[Path, ...]
) -> Node | None:
    target = _existing(path.parent / default.file)
    if target is None and default.optional:
        return None
    entry = Node(str(default.file), default.place.place)
    found = _include(entry, path, shown, loading, chain, key="defaults")
    if found is None or target is None:
        return None
    at = default.path(_text(target))
    if at == ("attack",):
        found = as_theirs(found)
    return with_value(branch({}, found.place), at, found) if at else found


def _entries(includes: Node, loading: _Loading) -> tuple[Node, ...]:
    entries = includes.value if isinstance(includes.value, tuple) else (includes,)
    for entry in entries:
        if not isinstance(entry.value, str) or not entry.value or "\0" in entry.value:
            message = f"wrong type for include: {as_shown(entry.plain())} is not a file name"
            loading.problems.append(entry.place.problem(message))
    return tuple(
        entry
        for entry in entries
        if isinstance(entry.value, str) and entry.value and "\0" not in entry.value
    )


def _include(
    entry: Node,
    path: Path,
    shown: Path,
    loading: _Loading,
    chain: tuple[Path, ...],
    key: str = "include",
) -> Node | None:
    name = str(entry.value)
    target_shown = Path(os.path.normpath(shown.parent / name))
    target = _existing(path.parent / name)
    loading.included += 1
    if target is None:
        message = f"{key}: there is no file {as_shown(str(target_shown))}"
    elif target in chain:
        files = " -> ".join(file.name for file in (*chain[chain.index(target) :], target))
        message = f"the {key} of {as_shown(name)} never ends: {files}"
    elif loading.included > _MAX_INCLUDES:
        message = f"more than {_MAX_INCLUDES} files are included"
    else:
        return _load(target, target_shown, loading, (*chain, target))
    loading.problems.append(entry.place.problem(message))
    return None


def _existing(path: Path) -> Path | None:
    try:
        resolved = path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):  # missing, a loop of links, or no possible name
        return None
    return resolved if resolved.is_file() else None
