"""The attempts of a job: those recorded before, and where new ones are written."""

from __future__ import annotations

import os
import random
import secrets
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_siren.evaluation.scores import Status
from pytest_siren.jobs.reading.job_config import RecordError
from pytest_siren.jobs.reading.prompt_siren import named
from pytest_siren.jobs.reading.read import Unreadable, iter_index, load_config
from pytest_siren.jobs.records.attempt import (
    config_of,
    data_of,
    execution_of,
    index_entry_of,
    result_of,
)
from pytest_siren.jobs.records.jsonable import JsonRecord
from pytest_siren.jobs.records.naming import (
    CONFIG_FILE,
    EXECUTION_FILE,
    INDEX_FILE,
    RESULT_FILE,
    check_job_name,
    check_run_id,
    run_directory,
)
from pytest_siren.jobs.redact import ENVIRONMENT, Redactor
from pytest_siren.jobs.writing.index import IndexWriter
from pytest_siren.jobs.writing.write import (
    Form,
    Written,
    check_room,
    folder_error,
    make_folder,
    put,
    write,
)
from pytest_siren.records import IndexEntry, JobConfig, Result, error_types

if TYPE_CHECKING:
    from pytest_siren.payloads import RunAttempt


_PATIENCE = 2.0
"""Seconds to wait for another process that has created its configuration and not yet filled it."""


class RunIds:
    """Random ids of attempts, 8 hexadecimal digits each.

    The source of a process of its own: the operating system's would cost a switch of threads each
    time, and ``random``'s own is set to known states by tests.
    """

    def __init__(self) -> None:
        self._random = random.Random(secrets.token_bytes(16))

    def __call__(self) -> str:
        return f"{self._random.getrandbits(32):08x}"


class JobExistsError(Exception):
    """The job that the user named belongs to another session."""


@dataclass(frozen=True)
class Recorded:
    """An attempt whose files are written."""

    written: Written
    entry: IndexEntry

    @property
    def folder(self) -> Path:
        return Path(self.written.path).parent


@dataclass(frozen=True)
class Transcripts:
    """Which attempts keep what was said and done, and how."""

    keep: str = "full"
    """``full``: all; ``failed``: those that did not pass; ``none``."""
    compressed: bool = False

    def keeps(self, *, passed: bool | None) -> bool:
        """Whether an attempt that passed, or did not, keeps its transcript."""
        return self.keep == "full" or (self.keep == "failed" and passed is not True)

    @property
    def file(self) -> tuple[str, Form]:
        """Name and form of the file."""
        if self.compressed:
            return EXECUTION_FILE + ".gz", Form.COMPRESSED
        return EXECUTION_FILE, Form.PART


@dataclass(frozen=True)
class JobStore:
    """Writes the records of one job.

    jobs/<job>/
        config.yaml
        index.jsonl
        .index/<host>-<pid>-<n>.jsonl
        <task>/<run id>/result.json, execution.json or execution.json.gz

    Any number of processes, and of threads in each, may write to the same job at the same time.
    """

    path: Path
    sync: frozenset[str] = frozenset({RESULT_FILE})
    """Names of the files that must have reached the disk when ``record`` returns."""
    transcripts: Transcripts = Transcripts()
    redactor: Redactor = ENVIRONMENT
    """Knows the secrets that must not be written."""
    index: IndexWriter = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", IndexWriter(self.path))

    @property
    def name(self) -> str:
        return self.path.name

    @classmethod
    def open(
        cls,
        jobs_dir: Path,
        name: str,
        session_id: str,
        config: Mapping[str, Any],
        *,
        exclusive: bool = False,
        created_at: datetime | None = None,
        transcripts: Transcripts = Transcripts(),
        redactor: Redactor = ENVIRONMENT,
    ) -> JobStore:
        """Create the job ``name``, or join it when this session has already created it.

        The same job is one with the same ``session_id`` and the same ``config["identity"]``. While
        the name belongs to another one, ``name_2``, ``name_3``, ... are tried. With ``exclusive``,
        for names that the user gave, another session's job raises ``JobExistsError`` instead.
        Raises ``ValueError`` for a name that is no folder's, ``FolderError`` when the folder cannot
        be made, by this name or any other. ``build.config_of`` tells what of ``config`` is used.
        """
        check_job_name(name)
        make_folder(jobs_dir)
        check_room(jobs_dir / name)
        created_at = created_at or datetime.now(UTC)
        for number in count(1):
            job = jobs_dir / (name if number == 1 else f"{name}_{number}")
            found = _claim(job, session_id, config, created_at, redactor)
            if found is None or _is_same(found, session_id, config):
                break
            if exclusive and (not isinstance(found, JobConfig) or found.session_id != session_id):
                raise JobExistsError(_exists_message(job, found))
        return cls(job, transcripts=transcripts, redactor=redactor)

    def record(self, attempt: RunAttempt) -> Path:
        """Write the files of ``attempt``, then its line in ``index.jsonl``; return its folder.

        Whoever records many attempts uses ``put`` and ``settle``, and merges the index at the end.
        Raises ``FileExistsError`` when the job has a run of that id already.
        """
        recorded = self.put(attempt)
        self.settle([recorded])
        self.index.merge()
        return recorded.folder

    def put(self, attempt: RunAttempt) -> Recorded:
        """Write the files of ``attempt``, which survive the end of this process from now on.

        ``settle`` must follow. Raises as ``record`` does.
        """
        result = attempt.record or result_of(attempt)
        kept = self.transcripts.keeps(passed=result.passed)
        return self.put_records(result, execution_of(attempt, result.usage) if kept else None)

    def put_records(self, result: Result, execution: JsonRecord | None) -> Recorded:
        """Write ``result``, and ``execution`` if there is one, as ``put`` does."""
        place = run_directory(result.task_id, result.attack, check_run_id(result.run_id))
        # As text: a ``Path`` takes as long to make as a file.
        folder = f"{self.path}/{place}"
        if result.run_index == 0 and result.attempt == 1:
            # The task's folder is likely to be missing, and to try in vain takes longer.
            _ensure(os.path.dirname(folder))
        try:
            os.mkdir(folder)
        except FileNotFoundError:
            _ensure(os.path.dirname(folder))
            os.mkdir(folder)
        if execution is not None:
            name, form = self.transcripts.file
            sync = EXECUTION_FILE in self.sync
            write(f"{folder}/{name}", execution, form, sync=sync, redactor=self.redactor)
        written = put(f"{folder}/{RESULT_FILE}", data_of(result), self.redactor)
        return Recorded(written, index_entry_of(result, place))

    def settle(self, recorded: Sequence[Recorded]) -> None:
        """Wait until ``recorded`` have reached the disk, and add their lines to the index.

        They go to the file of this process in ``.index/``; ``merge_index`` moves them. Several take
        hardly longer than one. Raises ``OSError`` when the disk refuses.
        """
        with ExitStack() as opened:
            for one in recorded:
                opened.callback(one.written.close)
            for one in recorded if RESULT_FILE in self.sync else ():
                one.written.sync()
        lines = [data_of(one.entry) for one in recorded]
        self.index.append(lines, sync=INDEX_FILE in self.sync, redactor=self.redactor)


def _ensure(folder: str) -> None:
    with suppress(FileExistsError):
        os.mkdir(folder)


def _claim(
    job: Path,
    session_id: str,
    config: Mapping[str, Any],
    created_at: datetime,
    redactor: Redactor,
) -> JobConfig | RecordError | None:
    """Write the configuration of ``job``; return ``None``, or what is there already."""
    try:
        # Only the job's own name can be taken; whatever else fails would fail for every name.
        os.mkdir(job)
    except FileExistsError:
        if not job.is_dir():
            return RecordError(f"{job} is a file")
    except OSError as error:
        raise folder_error(job, error) from error
    if not (job / CONFIG_FILE).exists():
        try:
            write_config(job, config, job.name, session_id, created_at, redactor)
        except FileExistsError:
            pass
        except OSError as error:
            raise folder_error(job, error) from error
        else:
            return None
    return _present(job)


def write_config(
    job: Path,
    config: Mapping[str, Any],
    name: str,
    session_id: str,
    created_at: datetime,
    redactor: Redactor = ENVIRONMENT,
) -> None:
    """Write the configuration of the job ``name`` into the folder ``job``.

    Raises ``FileExistsError`` where there is one, and ``OSError``.
    """
    content = config_of(config, name, session_id, created_at)
    header = (
        f"Job: {name}",
        f"Created: {created_at.astimezone(UTC).isoformat()}",
        f"Mode: {content['execution_mode']}",
    )
    write(job / CONFIG_FILE, content, Form.SNAPSHOT, header=header, redactor=redactor)


def _present(job: Path) -> JobConfig | RecordError:
    deadline = time.monotonic() + _PATIENCE
    try:
        while not (job / CONFIG_FILE).stat().st_size and time.monotonic() < deadline:
            time.sleep(0.02)
        return load_config(job)
    except OSError as error:
        return RecordError(f"cannot read {job / CONFIG_FILE}: {error.strerror}")
    except RecordError as error:
        return error


def _is_same(found: JobConfig | RecordError, session_id: str, config: Mapping[str, Any]) -> bool:
    return (
        isinstance(found, JobConfig)
        and found.session_id == session_id
        and found.identity == config.get("identity")
    )


def _exists_message(job: Path, found: JobConfig | RecordError) -> str:
    if isinstance(found, RecordError):
        return f"cannot create job {job.name!r}: {found}; choose another --job-name"
    return (
        f"job {job.name!r} already exists in {job.parent} (created "
        f"{found.created_at:%Y-%m-%d %H:%M:%S %Z}): continue it with --resume {job.name}, "
        "or choose another --job-name"
    )


_MADE_WITH_IT = frozenset({CONFIG_FILE, INDEX_FILE})


def remove_if_untouched(job: Path) -> bool:
    """Remove the folder ``job`` if there is no attempt in it, nor anything of others; tell if so.

    One that a process is still writing into has its mark, and stays.
    """
    try:
        found = {path.name: path.stat().st_size for path in job.iterdir()}
        if CONFIG_FILE not in found or found.get(INDEX_FILE) or found.keys() - _MADE_WITH_IT:
            return False
        shutil.rmtree(job)
    except OSError:
        # It is no more than in the way: ``siren jobs list`` names it.
        return False
    return True


@dataclass(frozen=True)
class Past:
    """The attempts at one run, oldest first."""

    entries: tuple[IndexEntry, ...] = ()

    @property
    def deciding(self) -> IndexEntry | None:
        """The attempt that counts: the first that was scored, else the last that there is."""
        scored = (entry for entry in self.entries if entry.status == Status.SCORED)
        return next(scored, self.entries[-1] if self.entries else None)

    def settled(self, retry: frozenset[str] | None) -> IndexEntry | None:
        """Return the attempt after which the run is not executed again; ``None`` if it is.

        ``retry`` are the error types, in lower case, after which it is, as are types derived from
        them; ``None`` stands for all. A
        cancelled run has not come to an end, so it always is.
        """
        deciding = self.deciding
        if deciding is None or deciding.status == Status.CANCELLED:
            return None
        if deciding.status == Status.SCORED:
            return deciding
        if retry is None or not retry.isdisjoint(error_types(deciding)):
            return None
        return deciding


@dataclass
class History:
    """The attempts of a job, by the identity of their run."""

    _runs: dict[str, list[IndexEntry]] = field(default_factory=dict)

    @classmethod
    def of(cls, entries: Iterable[IndexEntry]) -> History:
        """Sort ``entries``, which are in the order of time."""
        history = cls()
        for entry in entries:
            history._runs.setdefault(entry.identity, []).append(entry)
        return history

    def past(self, identity: str) -> Past:
        """Return the attempts at the run of that identity."""
        return Past(tuple(self._runs.get(identity, ())))

    def pasts(self) -> list[Past]:
        """Return the attempts at each run that has any."""
        return [Past(tuple(entries)) for entries in self._runs.values()]


def deciding(job: Path, identity: str | None, problems: list[str]) -> list[IndexEntry]:
    """Return the attempt that decides each run of ``job``, by the first attempts.

    ``identity`` is that of its configuration. Lines of the index that cannot be read are added to
    ``problems``. Raises ``RecordError`` and ``OSError``.
    """
    unreadable: list[Unreadable] = []
    pasts = History.of(named(iter_index(job, unreadable), identity)).pasts()
    problems += map(str, unreadable)
    return [past.deciding for past in pasts if past.deciding is not None]
