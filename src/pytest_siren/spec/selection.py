"""What the command line asks of the eval files."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Selection:
    """Choices that override what the eval files say.

    Without ``attacks`` and ``benign`` the file decides: its attacks if it names any, else its
    benign tasks. ``attacks`` means exactly those, ``benign`` the benign tasks too, or alone.
    ``models`` and ``agents`` multiply.
    """

    attacks: tuple[str, ...] = ()
    benign: bool = False
    models: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    runs: int | None = None
    task_ids: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    """``KEY=VALUE``, ``+KEY=VALUE`` or ``~KEY``, as written."""
    concurrency: int | None = None
    default_concurrency: int | None = None
    """For files that do not say; ``None`` is the schema's default."""
