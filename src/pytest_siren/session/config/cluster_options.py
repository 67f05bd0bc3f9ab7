"""``--slurm`` and its kin: whether a cluster executes the runs. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_siren.session.config.option_groups import OptionNames

SLURM = "slurm"


@dataclass(frozen=True)
class Submission:
    """What the user wants of the engine that starts elements."""

    engine: str
    """Name of the engine: ``slurm``, ``local``, ``debug`` or that of a plug-in of submitit."""
    partition: str | None
    """``None`` leaves it to the eval files, as do the minutes."""
    minutes: int | None
    elements: int | None
    """How many elements each array has; ``None`` for as many as are enough."""
    wait: bool
    """Whether the session follows the elements to their ends."""


def add_cluster_options(group: OptionNames) -> None:
    """Add the options."""
    group.addoption(
        "--slurm",
        action="store_true",
        default=False,
        help="have the runs executed by an array of Slurm jobs, and follow it",
    )
    group.addoption(
        "--slurm-partition",
        default=None,
        metavar="NAME",
        help="partition to submit to, instead of the one in the eval file",
    )
    group.addoption(
        "--slurm-time",
        type=int,
        default=None,
        metavar="MIN",
        help="time limit of a job in minutes, instead of the one in the eval file",
    )
    group.addoption(
        "--slurm-shards",
        type=int,
        default=None,
        metavar="N",
        help="elements of the array (default: enough for the pending runs, at most 16)",
    )
    group.addoption(
        "--no-wait",
        action="store_true",
        default=False,
        help="exit as soon as the array is submitted; pytest --lf comes back to it",
    )
    group.addoption(
        "--siren-executor",
        default=None,
        metavar="slurm|local|debug|NAME",
        help="what executes the runs instead of this process: Slurm, processes of this machine, "
        "this process by the same path, or a plug-in of submitit",
    )


def submission(config: pytest.Config) -> Submission | None:
    """Return what the options ask for; ``None`` where nothing is to be submitted."""
    option = config.getoption
    engine = SLURM if option("siren_slurm") else option("siren_executor")
    if engine is None:
        return None
    return Submission(
        engine,
        option("siren_slurm_partition"),
        option("siren_slurm_time"),
        option("siren_slurm_shards"),
        not option("siren_no_wait"),
    )


def check_submission(config: pytest.Config) -> None:
    """Raise ``pytest.UsageError`` for options that cannot be meant, or not together."""
    option = config.getoption
    for name, value in (
        ("--slurm-time", option("siren_slurm_time")),
        ("--slurm-shards", option("siren_slurm_shards")),
    ):
        if value is not None and value < 1:
            raise pytest.UsageError(f"{name} must be at least 1, not {value}")
    for name in ("siren_slurm_partition", "siren_executor"):
        if (text := option(name)) is not None and not text.strip():
            raise pytest.UsageError(f"{_SHORT[name]} has an empty name")
    named = option("siren_executor")
    if option("siren_slurm") and named not in (None, SLURM):
        raise pytest.UsageError(f"--slurm and --siren-executor {named} cannot be given together")
    asked = submission(config)
    given = [short for dest, short in _DEPENDENT.items() if option(dest)]
    if asked is None:
        if given:
            raise pytest.UsageError(f"{given[0]} needs --slurm or --siren-executor")
        return
    if asked.partition is not None and asked.engine != SLURM:
        raise pytest.UsageError(
            f"--slurm-partition cannot be used with --siren-executor {asked.engine}, which has none"
        )
    what = "--slurm" if option("siren_slurm") else f"--siren-executor {asked.engine}"
    if option("dist", "no") == "each":
        raise pytest.UsageError(
            f"{what} cannot be used with --dist each, which makes a job for every worker"
        )
    if option("usepdb", False):
        raise pytest.UsageError(f"{what} cannot be used with --pdb: no run is in this process")


_SHORT = {"siren_slurm_partition": "--slurm-partition", "siren_executor": "--siren-executor"}
_DEPENDENT = {
    "siren_slurm_partition": "--slurm-partition",
    "siren_slurm_time": "--slurm-time",
    "siren_slurm_shards": "--slurm-shards",
    "siren_no_wait": "--no-wait",
}
"""Options that mean nothing unless something is submitted."""
