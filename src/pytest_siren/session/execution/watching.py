"""Traces and logs the runs of jobs whose eval files ask for that."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import pytest

from pytest_siren.evaluation.accounts import StageObserver
from pytest_siren.evaluation.run import RunOutcome, RunPlan
from pytest_siren.evaluation.scores import Status
from pytest_siren.session.config.invocation import redactor
from pytest_siren.session.execution.output_capture import OUTPUT
from pytest_siren.session.items.report import screened, without_secrets

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic_ai.messages import ModelMessage, ModelResponse

    from pytest_siren.evaluation.accounts import Role
    from pytest_siren.evaluation.tasks import ToolCall, ToolOutcome
    from pytest_siren.payloads import RunInfo
    from pytest_siren.spec.jobspec import JobSpec
    from pytest_siren.spec.schema import LoggingSection, TelemetrySection
    from pytest_siren.telemetry.runs import Tracing

LOG_FILE = "siren.log"
"""In the folder of a job."""
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_RUNS = logging.getLogger("pytest_siren.runs")


class Watching:
    """What traces and logs runs in one process, begun by the first run that is to be watched."""

    def __init__(self, config: pytest.Config, warn: Callable[[str], None]) -> None:
        self._config, self._warn = config, warn
        self._logs = _LogFiles(config)
        self._tracing: dict[tuple[str | None, bool], Tracing | None] = {}

    async def run(
        self,
        spec: JobSpec,
        run: RunInfo,
        attempt: int,
        plan: RunPlan,
        execute: Callable[[RunPlan], Awaitable[RunOutcome]],
    ) -> RunOutcome:
        """Return what ``execute`` returns for ``plan``, watched as ``spec`` asks for."""
        tracing = self._traced(spec.telemetry) if spec.telemetry else None
        with ExitStack() as stack:
            if spec.log is not None:
                self._log(run, spec.log)
                plan = replace(plan, observers=(*plan.observers, _Noted()))
            trace = stack.enter_context(tracing.run(run, attempt)) if tracing else None
            if trace is not None:
                plan = trace.plan(plan)
            _RUNS.info("begins")
            outcome = without_secrets(await execute(plan), redactor(self._config))
            _note(outcome)
            if trace is not None:
                trace.ended(outcome)
        output = OUTPUT.get()
        if trace is not None and output is not None and (lines := trace.lines()):
            output.trace = "".join(f"{line}\n" for line in lines)
        return outcome

    def _log(self, run: RunInfo, asked: LoggingSection) -> None:
        try:
            self._logs.open(run, asked)
        except OSError as error:
            self._warn(f"{run.job.path / LOG_FILE} cannot be written: {error.strerror or error}")

    def close(self) -> None:
        """Close the logs, and send what is left of the traces, for a few seconds."""
        self._logs.end()
        for tracing in filter(None, self._tracing.values()):
            if (problem := tracing.close()) is not None:
                self._warn(f"telemetry: {problem}")
        self._tracing.clear()

    def _traced(self, asked: TelemetrySection) -> Tracing | None:
        """Return what traces runs there; ``None``, with a warning, where it is not installed."""
        key = (asked.otel_endpoint, asked.trace_console)
        if key not in self._tracing:
            self._tracing[key] = self._started(asked)
        return self._tracing[key]

    def _started(self, asked: TelemetrySection) -> Tracing | None:
        try:
            from pytest_siren.telemetry.runs import Tracing
        except ImportError as error:
            self._warn(
                f"telemetry: no traces are written ({error}); "
                "install it with: pip install 'pytest-siren[telemetry]'"
            )
            return None

        def clean(text: str) -> str:
            return redactor(self._config).known(text)

        return Tracing(asked.otel_endpoint, terminal=asked.trace_console, clean=clean)


@dataclass
class _LogFile:
    """The log of a job, to which several processes append whole lines."""

    descriptor: int
    level: int

    @classmethod
    def at(cls, path: Path, level: int) -> _LogFile:
        """Open the log at ``path``. Raises ``OSError``."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        return cls(os.open(path, flags, 0o666), level)


class _LogFiles(logging.Handler):
    """Writes what runs log into the logs of their jobs."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(_FORMAT))
        self._config = config
        self._files: dict[Path, _LogFile] = {}
        self._before: int | None = None
        """Level of the root logger, once it has been lowered."""

    def open(self, run: RunInfo, asked: LoggingSection) -> None:
        """Let what the current run logs go to the log of its job, in lines that name the run.

        Raises ``OSError``.
        """
        level = logging.getLevelNamesMapping()[asked.level]
        root, path = logging.getLogger(), run.job.path / LOG_FILE
        if path not in self._files:
            self._files[path] = _LogFile.at(path, level)
        if self._before is None:
            self._before = root.level
            root.addHandler(self)
        root.setLevel(min(root.level, level))
        if (output := OUTPUT.get()) is not None:
            named = f"{run.task_id} run{run.run_index}"
            output.log_file = partial(self._write, self._files[path], named)

    def emit(self, record: logging.LogRecord) -> None:
        """Write ``record`` to the log of the run that it is of, whatever thread it comes from."""
        output = OUTPUT.get()
        if output is not None and output.log_file is not None:
            output.log_file(record)

    def end(self) -> None:
        """Close all logs."""
        if self._before is not None:
            logging.getLogger().removeHandler(self)
            logging.getLogger().setLevel(self._before)
            self._before = None
        for file in self._files.values():
            os.close(file.descriptor)
        self._files.clear()

    def _write(self, file: _LogFile, run: str, record: logging.LogRecord) -> None:
        if record.levelno < file.level:
            return
        try:
            line = screened(f"[{run}] {self.format(record)}\n", redactor(self._config))
            os.write(file.descriptor, line.encode(errors="replace"))
        except Exception:  # noqa: BLE001 - logging reports what a handler raises
            self.handleError(record)


class _Noted(StageObserver):
    """Logs what a run asks and calls."""

    async def request_after(
        self,
        role: Role,
        model: str,
        messages: Sequence[ModelMessage],
        response: ModelResponse | None,
        error: BaseException | None,
        seconds: float,
    ) -> None:
        """See ``StageObserver``."""
        if response is None:
            _RUNS.warning("%s: %s failed after %.3f s: %s", role.value, model, seconds, error)
            return
        usage = response.usage
        tokens = f"{usage.input_tokens} tokens in, {usage.output_tokens} out"
        _RUNS.debug("%s: %s answered after %.3f s, %s", role.value, model, seconds, tokens)

    async def call_after(
        self,
        call: ToolCall,
        replayed: bool,
        outcome: ToolOutcome | None,
        error: BaseException | None,
        seconds: float,
    ) -> None:
        """See ``StageObserver``."""
        if outcome is None:
            _RUNS.warning("%s failed after %.3f s: %s", call.name, seconds, error)
            return
        what = "an error" if outcome.error else f"{len(outcome.text)} characters"
        _RUNS.debug("%s returned %s after %.3f s", call.name, what, seconds)


def _note(outcome: RunOutcome) -> None:
    for retry in outcome.retries:
        _RUNS.warning("request sent again after %.1f s: %s", retry.waited, retry.reason)
    if outcome.status is Status.SCORED:
        scores = f"benign_score {outcome.benign_score}, attack_score {outcome.attack_score}"
        _RUNS.info("scored after %.3f s: %s", outcome.duration, scores)
    elif outcome.error is not None:
        said = f"{outcome.error.type}: {outcome.error.message}"
        _RUNS.error("%s after %.3f s: %s", outcome.status.value, outcome.duration, said)
