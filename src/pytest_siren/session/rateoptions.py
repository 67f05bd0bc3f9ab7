"""The options of how rates are made. Standard library only."""

from __future__ import annotations

import pytest

from pytest_siren.metrics.choices import Cluster
from pytest_siren.session.optionnames import OptionNames


def add_rate_options(parser: pytest.Parser, group: OptionNames) -> None:
    """Add the options and ini keys."""
    group.addoption(
        "--siren-cluster",
        choices=tuple(Cluster),
        default=None,
        help="which runs intervals treat as correlated: those of one couple, benign task or "
        "malicious task (default: couple)",
    )
    parser.addini("siren_cluster", "as --siren-cluster")


def chosen_cluster(config: pytest.Config) -> Cluster:
    """Return what intervals take for alike. Raises ``pytest.UsageError`` for an unknown ini key."""
    given: str | None = config.getoption("siren_cluster")
    if given is not None:
        return Cluster(given)
    ini: str = config.getini("siren_cluster") or Cluster.COUPLE
    try:
        return Cluster(ini)
    except ValueError:
        known = ", ".join(Cluster)
        raise pytest.UsageError(f"siren_cluster must be one of {known}, not {ini!r}") from None
