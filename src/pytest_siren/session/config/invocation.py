"""What the user asked of a session, without secrets, and what the session decided by it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_siren.evaluation.bounds import MOST_RUNS_OF_TASK
from pytest_siren.jobs.redact import REDACTED

if TYPE_CHECKING:
    pass

_FROM_OPTIONS = {
    "attack": "siren_attack",
    "benign": "siren_benign",
    "model": "siren_model",
    "agent": "siren_agent",
    "task_ids": "siren_task_ids",
    "job_name": "siren_job_name",
    "runs": "siren_runs",
    "set": "siren_set",
    "keyword": "keyword",
    "markexpr": "markexpr",
    "deselect": "deselect",
    "gate": "siren_gate",
    "gate_on": "siren_gate_on",
    "gate_inconclusive": "siren_gate_inconclusive",
    "gate_unexposed": "siren_gate_unexposed",
    "gate_stop": "siren_gate_stop",
    "baseline": "siren_baseline",
    "cluster": "siren_cluster",
    "pass_k": "siren_pass_k",
    "concurrency": "siren_concurrency",
    "run_timeout": "siren_run_timeout",
    "grace": "siren_grace",
    "rpm": "siren_rpm",
    "tpm": "siren_tpm",
    "max_cost": "siren_max_cost",
    "prices": "siren_prices",
    "transcripts": "siren_transcripts",
    "compress": "siren_compress",
    "no_progress": "siren_no_progress",
    "report": "siren_report",
    "no_github": "siren_no_github",
    "results_format": "siren_results_format",
    "results_group_by": "siren_results_group_by",
    "results_output": "siren_results_output",
}
"""Field to the name under which pytest keeps the option."""
_CHANGEABLE = (
    *("gate", "gate_on", "gate_inconclusive", "gate_unexposed", "gate_stop"),
    *("baseline", "cluster", "pass_k"),
    *("concurrency", "run_timeout", "grace", "rpm", "tpm", "max_cost", "prices"),
    *("transcripts", "compress", "no_progress", "report", "no_github"),
    *("results_format", "results_group_by", "results_output"),
)
"""Fields that may be given anew on resuming, because no run depends on them."""
_PATHS = ("prices", "report", "results_output")
"""Fields that are paths, relative to the folder in which pytest was started."""
_FILTERS = ("keyword", "markexpr", "deselect")


@dataclass(frozen=True)
class Invocation:
    """The arguments and options of a session: which runs there are, and how they are executed."""

    args: tuple[str, ...] = ()
    """Positional arguments, relative to the root folder, with ``/``."""
    attack: tuple[str, ...] = ()
    benign: bool = False
    model: tuple[str, ...] = ()
    agent: tuple[str, ...] = ()
    task_ids: tuple[str, ...] = ()
    job_name: str | None = None
    runs: int | None = None
    set: tuple[str, ...] = ()
    keyword: str = ""
    markexpr: str = ""
    deselect: tuple[str, ...] = ()
    gate: tuple[str, ...] = ()
    gate_on: str | None = None
    gate_inconclusive: str | None = None
    gate_unexposed: str | None = None
    gate_stop: bool | None = None
    baseline: str | None = None
    cluster: str | None = None
    pass_k: tuple[int, ...] = ()
    concurrency: int | None = None
    run_timeout: float | None = None
    grace: float | None = None
    rpm: float | None = None
    tpm: float | None = None
    max_cost: str | None = None
    prices: str | None = None
    """Paths, as ``args`` are."""
    transcripts: str | None = None
    compress: bool | None = None
    no_progress: bool | None = None
    report: tuple[str, ...] = ()
    no_github: bool | None = None
    results_format: str | None = None
    results_group_by: tuple[tuple[str, ...], ...] = ()
    results_output: str | None = None

    @classmethod
    def of(cls, config: pytest.Config) -> Invocation:
        """Return what ``config`` was made from."""
        values = {name: _hashable(config.getoption(dest)) for name, dest in _FROM_OPTIONS.items()}
        given = {name: value for name, value in values.items() if value is not None}
        base, root = config.invocation_params.dir, config.rootpath
        for name in given.keys() & {*_PATHS}:
            given[name] = _each(given[name], lambda path: _from_root(path, base, root))
        if given.get("baseline") and os.path.exists(base / given["baseline"]):
            given["baseline"] = _from_root(given["baseline"], base, root)
        return cls(args=tuple(_relative(arg, base, root) for arg in config.args), **given)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Invocation:
        """Return what ``plain`` gave; fields that are unknown here are passed over.

        Raises ``ValueError`` for a value that no option gives.
        """
        known = {field.name: str(field.type) for field in fields(cls)}
        kept = {name: _hashable(value) for name, value in values.items() if name in known}
        for name, value in kept.items():
            if not _fits(known[name], value):
                raise ValueError(f"invocation.{name}: no option gives {str(value)[:60]!r}")
        return cls(**kept)

    def plain(self) -> dict[str, Any]:
        """Return JSON data, without what was not asked for."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if value or name == "args"
        }

    def restore(self, config: pytest.Config, *, with_args: bool, with_filters: bool) -> None:
        """Make ``config`` what it was; arguments, and ``-k``, ``-m``, ``--deselect``, if asked."""
        for name, dest in _FROM_OPTIONS.items():
            if name in _FILTERS and not with_filters:
                continue
            value = getattr(self, name)
            if name in _PATHS:
                value = _each(value, lambda path: str(config.rootpath / path))
            elif name == "baseline" and value and (config.rootpath / value).exists():
                value = str(config.rootpath / value)
            setattr(config.option, dest, list(value) if isinstance(value, tuple) else value)
        if with_args:
            base = config.invocation_params.dir
            config.args = [_given(arg, config.rootpath, base) for arg in self.args]
            config.args_source = config.ArgsSource.ARGS

    def with_changes(self, given: Invocation, sets: Sequence[str]) -> Invocation:
        """Return this with what may change on resuming: all but what decides on the runs."""
        changed = {_key(one) for one in sets}
        return replace(
            self,
            runs=given.runs or self.runs,
            set=(*(one for one in self.set if _key(one) not in changed), *sets),
            keyword=given.keyword or self.keyword,
            markexpr=given.markexpr or self.markexpr,
            deselect=given.deselect or self.deselect,
            **{name: _chosen(getattr(given, name), getattr(self, name)) for name in _CHANGEABLE},
        )

    def changes(self) -> Invocation:
        """Return what of this the next session is to go on with, where it changed something."""
        return Invocation(runs=self.runs, **{name: getattr(self, name) for name in _CHANGEABLE})


def _fits(kind: str, value: Any) -> bool:
    """Tell whether ``value`` is of the type that a field of that annotation has."""
    if value is None:
        return kind.endswith("| None")
    match kind.removesuffix(" | None"):
        case "tuple[str, ...]":
            return isinstance(value, tuple) and all(isinstance(one, str) for one in value)
        case "tuple[tuple[str, ...], ...]":
            return isinstance(value, tuple) and all(_fits("tuple[str, ...]", one) for one in value)
        case "tuple[int, ...]":
            return isinstance(value, tuple) and all(map(_is_number_of_runs, value))
        case "int":
            return _is_number_of_runs(value)
        case "float":
            return type(value) in (int, float) and 0 <= value < math.inf
        case "bool":
            return isinstance(value, bool)
    return isinstance(value, str)


def _is_number_of_runs(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MOST_RUNS_OF_TASK


def _chosen(given: Any, before: Any) -> Any:
    """Return what was ``given``, which may be a no, or else what was asked for ``before``."""
    return before if given in (None, ()) else given


def _key(override: str) -> str:
    return override.partition("=")[0]


def _hashable(value: Any) -> Any:
    return tuple(_hashable(one) for one in value) if isinstance(value, list | tuple) else value


def _each(value: Any, change: Callable[[str], str]) -> Any:
    """Return a path, several, or ``None``, with ``change`` applied to each path."""
    if value is None:
        return None
    return change(value) if isinstance(value, str) else tuple(change(one) for one in value)


def _from_root(path: str, base: Path, root: Path) -> str:
    return os.path.relpath(base / path, root).replace(os.sep, "/")


def _relative(arg: str, base: Path, root: Path) -> str:
    path, separator, rest = str(arg).partition("::")
    if not os.path.exists(base / path):
        return str(arg)  # a module, given with --pyargs
    relative = os.path.relpath(base / path, root).replace(os.sep, "/")
    return relative + separator + rest


def _given(arg: str, root: Path, base: Path) -> str:
    """Return ``arg``, relative to ``root``, as it is given in the folder ``base``.

    pytest takes brackets in the names of folders for parameters, so those above are left out.
    """
    path, separator, rest = arg.partition("::")
    if not os.path.exists(root / path):
        return arg
    found = str(root / path)
    return (os.path.relpath(found, base) if "[" in found else found) + separator + rest


def given_again(before: Invocation, given: Invocation, how: str) -> Invocation:
    """Return ``before`` with each ``--set`` whose value was withheld as ``given`` has it.

    Raises ``pytest.UsageError`` when it is not given.
    """
    now = {_key(one): one for one in given.set}
    missing = [one for one in before.set if REDACTED in one and _key(one) not in now]
    if missing:
        lacks = " ".join(f"--set {_key(one)}=VALUE" for one in missing)
        raise pytest.UsageError(
            f"{how}: this was started with --set {missing[0]}, and secrets are not recorded: "
            f"give {lacks} again (with ${{env:NAME}} in the eval file instead, there is no need to)"
        )
    return replace(
        before, set=tuple(now[_key(one)] if REDACTED in one else one for one in before.set)
    )


@dataclass(frozen=True)
class Resume:
    """What a session goes on with; the same on the controller and on every worker."""

    how: str
    """``--lf`` or ``--resume TARGET``, for messages."""
    jobs: Mapping[str, str]
    """Identity of a job's configuration to the path of its folder."""
    sweep: str | None
    jobs_dir: str | None
    """Where jobs are that begin now; ``None`` leaves it to option, ini key and eval file."""
    only: bool
    """Whether nothing but these jobs is run; else a configuration that changed is a new job."""
    retry: Sequence[str] | None
    """Types of errors, in lower case, after which a run is executed again; ``None``: all."""
    invocations: Mapping[str, Mapping[str, Any]]
    """With ``only``: identity of a job to what its session had been asked for."""
    files: Mapping[str, str]
    """With ``only``: identity of a job to its eval file, relative to the root folder."""
    override: Mapping[str, Any]
    """What the user changes, as the job's history of overrides keeps it; may be empty."""
    target: str | None = None
    """What ``--resume`` was given."""
    kept: Mapping[str, Any] = field(default_factory=dict)
    """What the next ``--lf`` is to go on with: what was asked for at first, with the overrides."""

    def of_file(self, file: str) -> dict[str, Mapping[str, Any]]:
        """Return the jobs of the eval file ``file`` with their invocations."""
        return {
            identity: self.invocations[identity]
            for identity, source in self.files.items()
            if source == file
        }


@dataclass(frozen=True)
class SessionInfo:
    """Decided once, on the controller."""

    id: str
    started_at: float
    """Seconds since the epoch."""
    jobs_dir: str | None
    """Where the user wants jobs; ``None`` when neither option nor ini key says."""
    records_id: str
    """Processes with the same one share jobs; those of ``--dist each`` have one each."""
    invocation: dict[str, Any] = field(default_factory=dict)
    """What the user asked for, as ``Invocation.plain`` gives it."""
    resume: Resume | None = None
    """What this session goes on with."""
    set_aside: str | None = None
    """How to resume the evaluations that this session leaves alone; it collects none then."""

    @property
    def started(self) -> datetime:
        return datetime.fromtimestamp(self.started_at, UTC)

    @property
    def sweep(self) -> str:
        """Name of the sweep that its jobs belong to."""
        known = self.resume.sweep if self.resume else None
        return known or self.started.strftime("%Y-%m-%d_%H-%M-%S")
