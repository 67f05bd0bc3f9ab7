"""Recorded runs: AgentDojo's log files and this project's own records."""

from __future__ import annotations

import gzip
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)

from pytest_siren.models.agentdojo_logs import FORMAT, read_messages
from pytest_siren.models.theirs import TheirJob, is_theirs, their_job
from pytest_siren.yamlpos.reader import read_bytes

_RESULT_FILE = "result.json"
_OWN = ("execution.json", "execution.json.gz")
_TASK = re.compile(r"(user|injection)_task_\d+")
_INJECTION = re.compile(r"none|injection_task_\d+")


class TranscriptError(ValueError):
    """A file that should hold a recorded run does not; the message says which and why."""


@dataclass(frozen=True)
class RecordingKey:
    """What a recording is filed under."""

    scope: str
    """Suite of an AgentDojo log, dataset of an own record."""
    task_id: str
    """Benign id, or ``benign:malicious``."""
    attack: str | None
    run_index: int


@dataclass(frozen=True)
class _Order:
    """What decides which of several attempts at a run counts."""

    scored: bool = True
    attempt: int = 1


@dataclass(frozen=True)
class Recording:
    """Where a recorded run lies, and how it is read."""

    key: RecordingKey
    path: Path
    pipeline: str
    """Who was recorded: the pipeline of an AgentDojo log, the job of an own record."""
    also: tuple[RecordingKey, ...] = ()
    """Other keys under which it is found."""
    order: _Order = _Order()

    @property
    def job(self) -> Path:
        """What holds no more than one run of a key: the job's folder, or an AgentDojo log."""
        return self.path.parent.parent.parent if self.path.name in _OWN else self.path

    def read(self) -> Transcript:
        """Read the file. Raises ``TranscriptError``."""
        if self.path.name in _OWN:
            return _read_own(self.path)
        return _read_agentdojo(self.path, self.key)


@dataclass(frozen=True)
class Transcript:
    """A recorded run."""

    responses: Sequence[ModelResponse]
    contents: Mapping[str, str]
    """Injection vector to the content that had been planted."""
    error: str | None = None
    """The error that ended the recorded run."""
    source: str = field(default="", compare=False)


class _Error(BaseModel):
    exception_type: str
    exception_message: str


class _Result(BaseModel):
    """What a recording takes from its ``result.json``."""

    model_config = ConfigDict(strict=True)

    dataset: str
    task_id: str
    attack: str | None
    run_index: int
    job_name: str
    status: str = "scored"
    attempt: int = 1
    exception_info: _Error | None = None


def find_recordings(root: Path, problems: list[str]) -> Iterator[Recording]:
    """Yield what is recorded at or below ``root``, by the files' places alone where that suffices.

    What cannot be read is named in ``problems``, as if it had not been recorded.

    An AgentDojo log lies at ``PIPELINE/SUITE/TASK/ATTACK/INJECTION.json``; an own record is an
    ``execution.json``, or ``execution.json.gz``, beside its ``result.json``, without which an
    attempt has not come to its end. Other files are none of both and are passed over.
    """
    files = [root] if root.is_file() else sorted([*root.rglob("*.json"), *root.rglob(_OWN[1])])
    jobs: dict[Path, TheirJob] = {}
    for path in files:
        if path.name in _OWN:
            if os.path.lexists(path.with_name(_RESULT_FILE)):
                try:
                    yield _own_recording(path, jobs)
                except TranscriptError as error:
                    problems.append(str(error))
        else:
            parts = path.resolve().parts
            pipeline, suite, task, attack = parts[-5:-1] if len(parts) > 5 else [""] * 4
            if _TASK.fullmatch(task) and _INJECTION.fullmatch(path.stem):
                yield Recording(_agentdojo_key(suite, task, attack, path.stem), path, pipeline)


def _agentdojo_key(suite: str, task: str, attack: str, injection: str) -> RecordingKey:
    attacked = attack != "none"
    task_id = f"{task}:{injection}" if attacked else task
    return RecordingKey(suite, task_id, attack if attacked else None, run_index=0)


def _load(path: Path) -> dict[str, Any]:
    try:
        content = read_bytes(path)
        data = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise TranscriptError(f"{path}: cannot be read as a recording: {error}") from error
    if not isinstance(data, dict):
        raise TranscriptError(f"{path}: not a recording: a JSON object was expected")
    return data


def _own_recording(path: Path, jobs: dict[Path, TheirJob]) -> Recording:
    result = _load(path.with_name(_RESULT_FILE))
    if is_theirs(result):
        return _their_recording(path, result, jobs)
    read = _result(path)
    key = RecordingKey(read.dataset, read.task_id, read.attack, read.run_index)
    scored = read.status == "scored"
    return Recording(key, path, read.job_name, order=_Order(scored, read.attempt))


def _result(path: Path) -> _Result:
    file = path.with_name(_RESULT_FILE)
    try:
        return _Result.model_validate(_load(file))
    except ValidationError as error:
        raise TranscriptError(f"{file}: {_said(error)}") from error


def _said(error: Exception) -> str:
    """Return what is wrong, and in which field, on one line."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
    if isinstance(error, KeyError):
        return f"the field {error} is missing"
    return " ".join(str(error).split())


def deciding(recordings: Iterable[Recording]) -> list[Recording]:
    """Return one recording of each job, in which all ``recordings`` are of the same run.

    That is the attempt that counts: the first that was scored, else the last that there is.
    """
    jobs: dict[Path, list[Recording]] = {}
    for one in recordings:
        jobs.setdefault(one.job, []).append(one)
    found = []
    for attempts in jobs.values():
        attempts.sort(key=lambda one: one.order.attempt)
        scored = (one for one in attempts if one.order.scored)
        found.append(next(scored, attempts[-1]))
    return found


def _their_recording(
    path: Path, result: Mapping[str, Any], jobs: dict[Path, TheirJob]
) -> Recording:
    place, folder = path.parent, path.parent.parent.parent
    try:
        job = jobs.get(folder) or jobs.setdefault(folder, their_job(folder))
    except (OSError, ValueError) as error:
        raise TranscriptError(f"{path}: its job cannot be read: {error}") from error
    index = job.run_indexes.get(f"{place.parent.name}/{place.name}", 0)
    key = RecordingKey(job.scope, str(result["task_id"]), job.attack, index)
    also = tuple(replace(key, attack=name) for name in job.other_names)
    return Recording(key, path, folder.name, also)


def _read_own(path: Path) -> Transcript:
    data, result = _load(path), _load(path.with_name(_RESULT_FILE))
    try:
        info = result.get("exception_info")
        error = None if info is None else _Error.model_validate(info)
        messages = ModelMessagesTypeAdapter.validate_python(data["messages"])
        imported = (data.get("source") or {}).get("format") == FORMAT
        attacks = data.get("attacks") or {}
        contents = {vector: _text_of(vector, attack) for vector, attack in attacks.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as problem:
        raise TranscriptError(f"{path}: {_said(problem)}") from problem
    asked = [message for message in messages if isinstance(message, ModelResponse)]
    return Transcript(
        responses=_turns(messages) if imported else asked,
        contents=contents,
        error=f"{error.exception_type}: {error.exception_message}" if error else None,
        source=str(path),
    )


def _text_of(vector: str, attack: Mapping[str, Any]) -> str:
    if (kind := attack.get("kind", "str")) != "str":
        raise ValueError(f"the attack on {vector!r} is of kind {kind!r}: only text can be planted")
    return str(attack["content"])


def _read_agentdojo(path: Path, key: RecordingKey) -> Transcript:
    data = _load(path)
    try:
        named = _agentdojo_key(
            data["suite_name"],
            data["user_task_id"],
            data["attack_type"] or "none",
            data["injection_task_id"] or "none",
        )
        messages = read_messages(data["messages"], at=datetime.now(UTC).isoformat())
        responses = _turns(ModelMessagesTypeAdapter.validate_python(messages))
        contents = {str(vector): str(text) for vector, text in (data["injections"] or {}).items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise TranscriptError(f"{path}: not an AgentDojo log: {error!r}") from error
    if named != key:
        raise TranscriptError(f"{path}: its content is of {named}, its place says {key}")
    failure = data.get("error")
    return Transcript(responses, contents, None if failure is None else str(failure), str(path))


def _turns(messages: Sequence[ModelMessage]) -> list[ModelResponse]:
    """Return the turns of a run that AgentDojo recorded.

    Several assistant messages in a row (a tool filter's answer before the model's own) and a turn
    that asked for nothing although the run went on are parts of the next turn, for an agent stops
    at a turn without calls.
    """
    turns: list[ModelResponse] = []
    parts: list[ModelResponsePart] = []
    last = max((at for at, one in enumerate(messages) if isinstance(one, ModelResponse)), default=0)
    for at, message in enumerate(messages):
        if not isinstance(message, ModelResponse):
            continue
        calls = any(isinstance(part, ToolCallPart) for part in message.parts)
        if at < last and (isinstance(messages[at + 1], ModelResponse) or not calls):
            parts += map(_as_thought, filter(_says_anything, message.parts))
            continue
        turns.append(replace(message, parts=[*parts, *message.parts]))
        parts = []
    return turns


def _as_thought(part: ModelResponsePart) -> ModelResponsePart:
    return ThinkingPart(part.content) if isinstance(part, TextPart) else part


def _says_anything(part: ModelResponsePart) -> bool:
    return not isinstance(part, TextPart) or bool(part.content)
