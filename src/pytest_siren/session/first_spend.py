"""The first evaluations of a project that nobody has asked for by name: what they will spend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pytest_siren.session.items import RunItem
from pytest_siren.session.resume import noted
from pytest_siren.session.text import printable

if TYPE_CHECKING:
    from pytest_siren.evaluation.prices import Prices
    from pytest_siren.session.runner import Evaluations

_NAME = 80
"""Cells that the name of a model may take."""


@dataclass(frozen=True, eq=False)
class FirstSpend:
    """Announces what a session without xdist is about to spend."""

    evaluations: Evaluations

    def pytest_report_collectionfinish(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> list[str]:
        """Show it below the number of collected items."""
        return announcement(config, paid_runs(items, self.evaluations.workshop.prices))


def is_unasked(config: pytest.Config) -> bool:
    """Whether evaluations that are collected are those of a bare ``pytest``, for the first time.

    Whoever names files or folders, on the command line or with ``testpaths``, asks for them.
    """
    option = config.getoption
    bare = config.args_source is config.ArgsSource.INVOCATION_DIR
    asked = option("siren_resume") or config.option.collectonly
    return bare and not asked and noted(config) is None


def paid_runs(items: Iterable[pytest.Item], prices: Prices) -> dict[str, tuple[int, bool]]:
    """Return, for each model that may cost money, its runs and whether its price is known."""
    from pytest_siren.evaluation.models import ModelKind
    from pytest_siren.evaluation.prices import is_free

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
        f"{runs:,} {'run' if runs == 1 else 'runs'} on {printable(model, _NAME)} "
        f"({'its price is known' if priced else 'no price is known'})"
        for model, (runs, priced) in paid.items()
    ]
    file = "pytest.ini" if config.inipath is None else config.inipath.name
    return [
        f"siren: the first evaluations of this project are about to begin: {', '.join(parts)}",
        "siren: pytest without arguments executes evaluations too; to run them by name only "
        f"(pytest evals), set testpaths in {printable(file, _NAME)} to the folders of your tests",
    ]
