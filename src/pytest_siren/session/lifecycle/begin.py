"""What a session with evaluations begins with: what it is, what reports, and what executes."""

from __future__ import annotations

import secrets
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_siren.session.config.invocation import Invocation, noted
from pytest_siren.session.config.option_groups import (
    check_stop,
    on_github,
    option_gates,
    prices,
    results_asked,
    targets,
)
from pytest_siren.session.config.options import asks_to_resume, chosen_jobs_dir, names, run_timeout
from pytest_siren.session.config.processes import (
    RegistrationError,
    Resume,
    SessionInfo,
    executor_of,
    is_worker,
    registry,
)
from pytest_siren.session.config.stash import EVALUATIONS, SESSION
from pytest_siren.session.execution.event_loop import Lull, give_back, no_collections
from pytest_siren.session.gating.plugin import Gating, baseline
from pytest_siren.session.reporting.progress.plugin import ProgressReporting
from pytest_siren.session.reporting.terminal import LostRecords, Reporting

if TYPE_CHECKING:
    from pytest_siren.evaluation.components import Registry
    from pytest_siren.session.collection.eval_file import EvalFile
    from pytest_siren.session.collection.marked_function import EvalFunction
    from pytest_siren.session.execution.executor import Evaluations
    from pytest_siren.sharing.state import SharedState


def decide(config: pytest.Config) -> SessionInfo:
    """Return this session's facts: new on a controller, the controller's on a worker.

    Raises ``pytest.UsageError`` for what cannot be gone on with.
    """
    values = executor_of(config).decided
    if values is not None:
        resume = values["resume"] and Resume(**values["resume"])
        if resume is not None:
            # A worker is started with the controller's command line, not with what came of it.
            asked = Invocation.from_plain(values["invocation"])
            asked.restore(config, with_args=True, with_filters=True)
        return SessionInfo(**{**values, "resume": resume})
    resume = aside = None
    if asks_to_resume(config):
        from pytest_siren.session.resume.resolve import resumed, set_aside

        resume, aside = resumed(config), set_aside(config)
    jobs_dir = chosen_jobs_dir(config)
    if jobs_dir is None and resume is not None and resume.jobs_dir:
        jobs_dir = config.rootpath / resume.jobs_dir
    session_id = secrets.token_hex(8)
    return SessionInfo(
        id=session_id,
        records_id=session_id,
        started_at=datetime.now(UTC).timestamp(),
        jobs_dir=str(jobs_dir) if jobs_dir else None,
        invocation=Invocation.of(config).plain(),
        resume=resume,
        set_aside=aside,
    )


def for_process(info: SessionInfo, name: str, *, own_jobs: bool) -> dict[str, Any]:
    """Return ``info`` in the form that crosses to the process of that ``name``.

    With ``own_jobs`` it records in jobs of its own.
    """
    records_id = f"{info.id}-{name}" if own_jobs else info.id
    return {**asdict(info), "records_id": records_id}


def begin(config: pytest.Config, *, failed: bool = False) -> None:
    """Decide what the session is, and register what reports; only once, if called again.

    ``failed`` tells whether something could not be collected by now. Raises ``pytest.UsageError``
    for what options cannot mean.
    """
    if SESSION in config.stash:
        return
    session = config.stash[SESSION] = decide(config)
    plugins = config.pluginmanager
    plugins.register(Reporting(config), "siren-reporting")
    if not is_worker(config):
        plugins.register(ProgressReporting(config), "siren-progress")
        check_stop(config)
        gates = option_gates(config)
        compared = baseline(config, gates)
        plugins.register(Gating(config, gates, compared, failed), "siren-gating")
        if targets(config) or on_github(config):
            from pytest_siren.session.reporting.files import ReportFiles

            plugins.register(ReportFiles(config, compared), "siren-report-files")
        plugins.register(LostRecords(config), "siren-lost-records")
        if results_asked(config):
            from pytest_siren.session.reporting.results import Results

            plugins.register(Results(config), "siren-results")
    if session.resume is not None:
        from pytest_siren.session.resume.item_filter import Resuming, catch_up

        if not is_worker(config):
            executes = not config.option.collectonly
            jobs = session.resume.jobs
            followed = executor_of(config).attach(jobs) if executes else frozenset[int]()
            catch_up(config, session.resume, followed)
        plugins.register(Resuming(config, session.resume), "siren-resuming")


def collect(path: Path, parent: pytest.Collector) -> EvalFile | None:
    """Return the eval file at ``path``; ``None`` where this session leaves evaluations alone."""
    with no_collections():
        from pytest_siren.session.collection.eval_file import EvalFile

        begin(parent.config, failed=parent.session.testsfailed > 0)
        if parent.config.stash[SESSION].set_aside is not None:
            return None
        start(parent.config)
    return EvalFile.from_parent(parent, path=path)


def collect_function(
    parent: pytest.Collector, name: str, function: Any, found: Any
) -> list[EvalFunction]:
    """Return the evaluation of the marked ``function``; none where this session leaves it alone.

    ``found`` are the items that pytest would make of the function.
    """
    with no_collections():
        from pytest_siren.session.collection.marked_function import evaluations

        begin(parent.config, failed=parent.session.testsfailed > 0)
        if parent.config.stash[SESSION].set_aside is not None:
            return []
        start(parent.config)
    return list(evaluations(parent, name, function, found))


def start(config: pytest.Config) -> Evaluations:
    """Return this process's evaluations, made when the first eval file is seen.

    Raises ``pytest.Collector.CollectError`` when a hook that registers components raises.
    """
    from pytest_siren.session.execution.executor import Evaluations, evaluations_of

    if EVALUATIONS not in config.stash:
        # Only here: a session that finds no eval file does not load what executes runs.
        from pytest_siren.evaluators.python import ProjectRoot
        from pytest_siren.session.collection.eval_file import AskedTaskIds
        from pytest_siren.session.execution.run_loop import OtherPlugins
        from pytest_siren.session.items.job import Workshop
        from pytest_siren.session.recording.recorder import RECORDER, JsonRecorder, Writer
        from pytest_siren.sharing.state import SharedSpend

        give_back()
        components = _registry(config)
        lull = Lull()
        recorder = JsonRecorder(config, Writer(lull))
        board = _board(config)
        evaluations = Evaluations(
            config,
            Workshop(components, prices(config), SharedSpend(board), ProjectRoot(config.rootpath)),
            recorder,
            board,
            lull,
            run_timeout=run_timeout(config).seconds,
        )
        config.stash[EVALUATIONS] = evaluations
        config.stash[RECORDER] = recorder
        config.pluginmanager.register(evaluations, "siren-evaluations")
        if is_unasked(config) and not is_worker(config):
            from pytest_siren.session.lifecycle.first_spend import FirstSpend

            config.pluginmanager.register(FirstSpend(evaluations), "siren-first-spend")
        config.pluginmanager.register(OtherPlugins(), "siren-other-plugins")
        if asked := names(config.getoption("siren_task_ids")):
            config.pluginmanager.register(AskedTaskIds(asked), "siren-task-ids")
        # Also where the hook of another plugin fails before the session is finished.
        config.add_cleanup(evaluations.close)
    return evaluations_of(config)


def _board(config: pytest.Config) -> SharedState:
    """Join the board of the session. Raises a collection error where there is no place for it."""
    from pytest_siren.jobs.writing.write import FolderError
    from pytest_siren.sharing.state import SharedStateError

    try:
        return executor_of(config).join()
    except FolderError as error:
        raise pytest.Collector.CollectError(str(error)) from None
    except (OSError, SharedStateError) as error:
        message = f"evaluations need a temporary folder ($TMPDIR): {error}"
        raise pytest.Collector.CollectError(message) from None


def _registry(config: pytest.Config) -> Registry:
    try:
        return registry(config)
    except RegistrationError as error:
        raise pytest.Collector.CollectError(str(error)) from error


def is_unasked(config: pytest.Config) -> bool:
    """Whether evaluations that are collected are those of a bare ``pytest``, for the first time.

    Whoever names files or folders, on the command line or with ``testpaths``, asks for them.
    """
    option = config.getoption
    bare = config.args_source is config.ArgsSource.INVOCATION_DIR
    asked = option("siren_resume") or config.option.collectonly
    return bare and not asked and noted(config) is None
