"""What is installed, read once: every session asks all packages for their entry points and files.

That was a third of the time of a short session.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any

_Packages = Sequence[importlib.metadata.Distribution]


class _Installed(importlib.metadata.PathDistribution):
    """A package whose files are not read again."""

    @cached_property
    def entry_points(self) -> Any:
        return super().entry_points

    @cached_property
    def files(self) -> Any:
        return super().files

    @cached_property
    def metadata(self) -> Any:
        return super().metadata


def read_once() -> None:
    """Let this process, and those that it forks, read only once what is installed now."""
    discover = importlib.metadata.distributions
    if isinstance(discover, partial):
        return
    installed = {entry: list(discover(path=[entry])) for entry in dict.fromkeys(sys.path)}
    for one in [one for found in installed.values() for one in found]:
        one.__class__ = _Installed
    importlib.metadata.distributions = partial(_distributions, discover, installed)


def _distributions(
    discover: Callable[..., Iterator[importlib.metadata.Distribution]],
    installed: dict[str, _Packages],
    **asked: Any,
) -> Iterator[importlib.metadata.Distribution]:
    for entry in asked.pop("path", sys.path):
        if asked or entry not in installed:
            yield from discover(**asked, path=[entry])
        else:
            yield from installed[entry]
