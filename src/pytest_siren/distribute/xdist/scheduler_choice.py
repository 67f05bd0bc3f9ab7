"""xdist wants a scheduler before anything is collected; which one, the collection tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from xdist.workermanage import parse_tx_spec_config  # type: ignore[import-untyped]

from pytest_siren.distribute.xdist.scheduler import RunScheduling
from pytest_siren.session.config.stash import SESSION
from pytest_siren.session.recording.shared_folder import SessionFolder


class ChosenScheduling:
    """``RunScheduling`` where there are runs among the items, else ``usual``."""

    def __init__(self, config: pytest.Config, usual: Any) -> None:
        self._config = config
        self._usual = usual
        self._nodes: list[Any] = []
        self.chosen: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.chosen or self._usual, name)

    @property
    def nodes(self) -> list[Any]:
        """The workers that are alive."""
        nodes: list[Any] = self.chosen.nodes if self.chosen else list(self._nodes)
        return nodes

    def add_node(self, node: Any) -> None:
        """A worker has come up."""
        if self.chosen:
            self.chosen.add_node(node)
        else:
            self._nodes.append(node)

    def remove_node(self, node: Any) -> str | None:
        """A worker has gone."""
        if self.chosen:
            item: str | None = self.chosen.remove_node(node)
            return item
        if node in self._nodes:
            self._nodes.remove(node)
        return None

    def add_node_collection(self, node: Any, collection: Sequence[str]) -> None:
        """A worker has collected; the first one decides."""
        if not self.chosen:
            collected = SessionFolder.of(self._config.stash[SESSION].id).collected()
            self.chosen = self._usual
            if collected is not None and collected.total:
                numnodes = len(parse_tx_spec_config(self._config))
                self.chosen = RunScheduling(self._config, collected, numnodes)
            for known in self._nodes:
                self.chosen.add_node(known)
        self.chosen.add_node_collection(node, collection)
