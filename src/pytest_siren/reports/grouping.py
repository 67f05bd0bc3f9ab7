"""The groups of results. Standard library only."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Sequence

GROUPS = {
    "all": ("dataset", "suite", "agent", "model", "model_kind", "attack", "identity"),
    "dataset": ("dataset",),
    "suite": ("suite",),
    "dataset_suite": ("suite",),
    "agent": ("agent",),
    "model": ("model",),
    "agent_name": ("model",),
    "attack": ("attack",),
    "task": ("dataset", "task_id"),
    "benign_task": ("dataset", "benign_task"),
    "malicious_task": ("dataset", "malicious_task"),
    "vector": ("dataset", "vector"),
    "job": ("job",),
}
"""Name of a group to the columns that it stands for."""
FORMATS = ("table", "json", "csv", "markdown", "latex")
ENDINGS = {"json": "json", "csv": "csv", "md": "markdown", "tex": "latex"}
"""Suffix of a file to its format."""


def group_names(text: str) -> list[str]:
    """Return the groups that ``text`` lists. Raises ``argparse.ArgumentTypeError`` if unknown."""
    names = [name.strip().lower() for name in text.split(",")]
    for name in names:
        if name not in GROUPS:
            known = ", ".join(GROUPS)
            raise ArgumentTypeError(f"unknown group {name!r}; known are {known}")
    return names


def asked_groups(given: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return the groups of an option that may be given several times; ``all`` without it."""
    return tuple(name for names in given for name in names) or ("all",)


def columns_of(groups: Sequence[str]) -> list[str]:
    """Return the columns of the table of runs that ``groups`` stand for."""
    return list(dict.fromkeys(column for name in groups for column in GROUPS[name]))
