"""The harnesses: pytest-siren and its peers, each with the settings that suit it best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.contest import Entry


@dataclass(frozen=True)
class Peer:
    """A harness: its entries for each kind of work, and in words why one is missing.

    ``settings`` goes into the results; ``packages`` are those whose versions matter.
    """

    name: str
    python: Path | None
    settings: str
    packages: tuple[str, ...]
    entries: Mapping[str, tuple[Entry, ...]] = field(default_factory=dict)
    cannot: Mapping[str, str] = field(default_factory=dict)
