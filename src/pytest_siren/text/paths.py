"""Paths as people are shown them."""

from __future__ import annotations

from pathlib import Path


def shown(path: Path, root: Path) -> Path:
    """Return ``path`` relative to ``root`` when it lies inside, else as it is."""
    return path.relative_to(root) if path.is_relative_to(root) else path
