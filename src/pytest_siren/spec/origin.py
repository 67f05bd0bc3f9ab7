"""What a job was made of, by its records, where another tool has rewritten its ``config.yaml``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pytest_siren.yamlpos.files import read_bytes
from pytest_siren.yamlpos.nodes import Node, branch

_INDEX, _RESULT = "index.jsonl", "result.json"


def with_origin(root: Node, path: Path) -> Node:
    """Return the configuration ``root`` of the file ``path`` with what its first record tells.

    prompt-siren leaves out what it does not know when it changes the file of a job that was started
    here: the name of the attack and the eval file, without which it would be another job.
    """
    first = _first_record(path.parent)
    if first is None or not isinstance(root.value, dict):
        return root
    file = str(first["nodeid"]).partition("::")[0]
    if Path(file).parts[-2:] == path.absolute().parts[-2:]:
        return root  # it was prompt-siren's, and has been resumed here
    known = {"session_id": "recorded", "eval_file": file}
    place = Path(str(first.get("path")))
    inside = not place.is_absolute() and ".." not in place.parts
    attack = _read(path.parent / place / _RESULT).get("attack") if inside else None
    if isinstance(attack, str):
        known["attack_name"] = attack
    nodes = {key: Node(value, root.place) for key, value in known.items()}
    return branch({**root.value, **nodes}, root.place)


def _first_record(job: Path) -> dict[str, Any] | None:
    """Return the first line of the index of ``job`` that a session of ours wrote."""
    try:
        lines = read_bytes(job / _INDEX).split(b"\n")
    except OSError:
        return None
    for line in lines:
        found = _parsed(line) if b'"nodeid"' in line else {}
        if isinstance(found.get("nodeid"), str) and found["nodeid"]:
            return found
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        return _parsed(read_bytes(path))
    except (OSError, ValueError):  # the latter for a path that no file can have
        return {}


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
