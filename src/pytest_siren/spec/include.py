"""Reads an eval file with the files that it includes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_siren.spec.errors import Problem
from pytest_siren.spec.interpolation import interpolated
from pytest_siren.spec.wording import shown as as_shown
from pytest_siren.yamlpos.nodes import Node, branch, merged
from pytest_siren.yamlpos.reader import read_yaml

_MAX_INCLUDES = 100


@dataclass
class _Loading:
    environ: Mapping[str, str]
    problems: list[Problem] = field(default_factory=list)
    included: int = 0


def load_tree(
    path: Path, shown: Path, environ: Mapping[str, str]
) -> tuple[Node | None, list[Problem]]:
    """Return the mapping that an eval file and its includes come to, and all problems found.

    Included files are merged in their order, then the file itself on top: mappings key by key, all
    else replaced. Variables of ``environ`` are filled in; paths in ``include`` start from the file
    that they stand in.
    """
    loading = _Loading(environ)
    root = _load(path, shown, loading, (path.resolve(),))
    return root, loading.problems


def _load(path: Path, shown: Path, loading: _Loading, chain: tuple[Path, ...]) -> Node | None:
    root, problems = read_yaml(path, shown)
    loading.problems += problems
    if root is None:
        return None
    root = interpolated(root, loading.environ, loading.problems)
    assert isinstance(root.value, dict)
    entries = dict(root.value)
    includes = entries.pop("include", None)
    tree = branch(entries, root.place)
    if includes is None or includes.value is None:
        return tree
    below = branch({}, root.place)
    for entry in _entries(includes, loading):
        if (under := _include(entry, path, shown, loading, chain)) is not None:
            below = merged(below, under)
    return merged(below, tree)


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
    entry: Node, path: Path, shown: Path, loading: _Loading, chain: tuple[Path, ...]
) -> Node | None:
    name = str(entry.value)
    target_shown = Path(os.path.normpath(shown.parent / name))
    target = _existing(path.parent / name)
    loading.included += 1
    if target is None:
        message = f"include: there is no file {as_shown(str(target_shown))}"
    elif target in chain:
        files = " -> ".join(file.name for file in (*chain[chain.index(target) :], target))
        message = f"the include of {as_shown(name)} never ends: {files}"
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
