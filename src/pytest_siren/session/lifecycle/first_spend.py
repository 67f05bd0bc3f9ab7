"""The note before a project spends money on evaluations for the first time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pytest_siren.session.items.job import RunItem
from pytest_siren.text.words import counted, printable

if TYPE_CHECKING:
    from pytest_siren.evaluation.accounts import Prices
    from pytest_siren.session.execution.executor import Evaluations

_NAME = 80
"""Cells that the name of a model may take."""


@dataclass(frozen=True, eq=False)
class FirstSpend:
    """Announces what a session of one process is about to spend."""

    evaluations: Evaluations

    def pytest_report_collectionfinish(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> list[str]:
        """Show it below the number of collected items."""
        return announcement(config, paid_runs(items, self.evaluations.workshop.prices))


def paid_runs(items: Iterable[pytest.Item], prices: Prices) -> dict[str, tuple[int, bool]]:
    """Return, for each model that may cost money, its runs and whether its price is known."""
    from pytest_siren.evaluation.accounts import is_free
    from pytest_siren.evaluation.models import ModelKind

    found: dict[str, int] = {}
    for item in items:
        if isinstance(item, RunItem) and item.job.model.kind is ModelKind.MODEL:
            found[item.job.model.id] = found.get(item.job.model.id, 0) + 1
    return {
        model: (runs, prices.known(model)) for model, runs in found.items() if not is_free(model)
    }


def announcement(config: pytest.Config, paid: Mapping[str, tuple[int, bool]]) -> list[str]:
    """Return what to show before the first of these runs; nothing if none may cost money."""
    if not paid:
        return []
    parts = [
        f"{counted(runs, 'run')} on {printable(model, _NAME)} "
        f"({'its price is known' if priced else 'no price is known'})"
        for model, (runs, priced) in paid.items()
    ]
    file = "pytest.ini" if config.inipath is None else config.inipath.name
    return [
        f"siren: the first evaluations of this project are about to begin: {', '.join(parts)}",
        "siren: pytest without arguments executes evaluations too; to run them by name only "
        f"(pytest evals), set testpaths in {printable(file, _NAME)} to the folders of your tests",
    ]
