"""A pytest plugin that collects ``*.empty``: as many items that do nothing as the file says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


class EmptyItem(pytest.Item):
    """An item whose test does nothing."""

    def runtest(self) -> None:
        """Do nothing."""

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name


class EmptyFile(pytest.File):
    """Holds the number of its items."""

    def collect(self) -> Iterator[EmptyItem]:
        for index in range(int(self.path.read_text())):
            yield EmptyItem.from_parent(self, name=f"task_{index}[control-run0]")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> EmptyFile | None:
    """Collect files that end with ``.empty``."""
    return EmptyFile.from_parent(parent, path=file_path) if file_path.suffix == ".empty" else None
