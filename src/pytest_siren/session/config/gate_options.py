"""The options of gates and rates. Standard library only until a gate is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_siren.metrics.rates.choices import Cluster, Unexposed
from pytest_siren.session.config.option_names import OptionNames

if TYPE_CHECKING:
    from pytest_siren.session.config.option_names import OptionNames
    from pytest_siren.spec.gates import Gate


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


OPTION, INI = "--gate", "siren_gate"
UNEXPOSED, UNEXPOSED_INI = "--gate-unexposed", "siren_gate_unexposed"


def add_gate_options(parser: pytest.Parser, group: OptionNames) -> None:
    """Add the options and the ini key."""
    group.addoption(
        OPTION,
        action="append",
        default=[],
        metavar="EXPR",
        help="let a condition on all runs decide the exit code, such as 'asr <= 0.05' or "
        "'utility[suite=banking] >= 0.8'; may be given several times",
    )
    group.addoption(
        "--gate-on",
        choices=("interval", "point"),
        default=None,
        help="what must be on the good side of the bound: the whole 95 %% interval, or the bare "
        "estimate (default: interval)",
    )
    group.addoption(
        "--gate-inconclusive",
        choices=("fail", "warn"),
        default=None,
        help="whether a gate that cannot be decided fails the session (default: fail)",
    )
    group.addoption(
        UNEXPOSED,
        choices=tuple(Unexposed),
        default=None,
        help="what attacked runs whose model was not sent the planted text count as in gates on "
        "attack success: like any other, or as unknown scores (default: count)",
    )
    group.addoption(
        "--gate-stop",
        action="store_true",
        default=None,
        help="take runs in rounds, in a shuffled order, and stop as soon as every gate is settled; "
        "where only pass@k is asked for, no further runs of a task that is decided",
    )
    group.addoption(
        "--no-gate-stop",
        action="store_false",
        dest="siren_gate_stop",
        help="with --lf and --resume: also the runs that --gate-stop left out",
    )
    group.addoption(
        "--baseline",
        default=None,
        metavar="JOB|FILE",
        help="what gates such as 'asr_increase <= 0.02' compare with: a job, a sweep, or a file "
        "or folder made by siren bless",
    )
    parser.addini(UNEXPOSED_INI, "as --gate-unexposed")
    parser.addini(INI, "gates of every session with evaluations, one a line", type="linelist")


def option_gates(config: pytest.Config) -> list[Gate]:
    """Return the gates of the command line and the ini file. Raises ``pytest.UsageError``."""
    given = [(OPTION, text) for text in config.getoption("siren_gate")]
    given += [(INI, text) for text in config.getini(INI)]
    if not given:
        return []
    from pytest_siren.spec.gates import GateError, parse_gate

    gates = []
    for source, text in given:
        try:
            gates.append(parse_gate(text, source))
        except GateError as error:
            raise pytest.UsageError(f"{source}: {error.pointed()}") from None
    return gates


def check_stop(config: pytest.Config) -> None:
    """Raise ``pytest.UsageError`` for what ``--gate-stop`` cannot be used with."""
    if not config.getoption("siren_gate_stop"):
        return
    if on_point(config):
        raise pytest.UsageError(
            "--gate-stop needs intervals: it cannot be used with --gate-on=point"
        )
    if config.getoption("dist", "no") == "each":
        raise pytest.UsageError("--gate-stop cannot be used with --dist each")
    if chosen_cluster(config) != "couple":
        raise pytest.UsageError(
            "--gate-stop takes tasks and couples for independent: it cannot be used with "
            "--siren-cluster=benign or malicious"
        )


def on_point(config: pytest.Config) -> bool:
    """Whether the bare estimate decides."""
    return bool(config.getoption("siren_gate_on") == "point")


def unexposed_counts_as(config: pytest.Config) -> Unexposed:
    """Return what runs count as that read no planted text. Raises ``pytest.UsageError``."""
    given = (
        config.getoption("siren_gate_unexposed") or config.getini(UNEXPOSED_INI) or Unexposed.COUNT
    )
    try:
        return Unexposed(given)
    except ValueError:
        known = ", ".join(Unexposed)
        raise pytest.UsageError(f"{UNEXPOSED_INI} must be one of {known}, not {given!r}") from None


def may_be_inconclusive(config: pytest.Config) -> bool:
    """Whether the session passes with gates that cannot be decided."""
    return bool(config.getoption("siren_gate_inconclusive") == "warn")
