"""``replay:PATH``: answers from recorded runs, and from nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage

from pytest_siren.evaluation.components import Component
from pytest_siren.evaluation.models import ModelKind, RunContext, Unknown
from pytest_siren.models.control import OfflineModel
from pytest_siren.models.names import spoken_name
from pytest_siren.models.transcripts import (
    Recording,
    RecordingKey,
    Transcript,
    TranscriptError,
    deciding,
    find_recordings,
)


class NoRecordingError(LookupError):
    """The run was never recorded, or not as it is run now."""


class RecordedError(RuntimeError):
    """The recorded run ended in this error."""


class ReplayConfig(BaseModel):
    """What stands after ``replay:``."""

    model_config = ConfigDict(extra="forbid")

    argument: str = Field(min_length=1, description="Folder or file with recordings")


class ReplaySource:
    """Finds the recording of each run."""

    kind = ModelKind.REPLAY

    def __init__(self, argument: str, base: Path) -> None:
        self.id = f"replay:{argument}"
        self.root = _resolve(argument, base)
        self._problems: list[str] = []
        self.label = f"replay:{self.root.name}"
        self.spoken_name = spoken_name(self.root.name)

    @cached_property
    def _recordings(self) -> Mapping[RecordingKey, Sequence[Recording]]:
        found: dict[RecordingKey, list[Recording]] = {}
        for recording in find_recordings(self.root, self._problems):
            for key in (recording.key, *recording.also):
                found.setdefault(key, []).append(recording)
        if not found:
            raise NoRecordingError(f"{self.root} holds no recordings{self._damaged()}")
        return {key: deciding(attempts) for key, attempts in found.items()}

    def _damaged(self) -> str:
        """Say what could not be read, where it may be what is looked for."""
        if not self._problems:
            return ""
        more = f", and {len(self._problems) - 1:,} more" if len(self._problems) > 1 else ""
        return f" (not readable: {self._problems[0]}{more})"

    def attacks(self) -> list[str]:
        """Return the names of the attacks that were recorded, sorted."""
        recordings = (one for found in self._recordings.values() for one in found)
        return sorted({one.key.attack for one in recordings if one.key.attack is not None})

    def transcript(self, run: RunContext) -> Transcript:
        """Return the recording of ``run``. Raises ``NoRecordingError`` or ``TranscriptError``."""
        return self._find(run).read()

    async def bind(self, run: RunContext) -> Model:
        return ReplayModel(self.label, self.transcript(run))

    def unknown(self, run: RunContext) -> Unknown:
        """A recording shows both scores."""
        return Unknown()

    def _find(self, run: RunContext) -> Recording:
        for scope in filter(None, (run.dataset, run.suite)):
            key = RecordingKey(scope, run.task_id, run.recording, run.run_index)
            recordings = self._recordings.get(key, ())
            if len(recordings) == 1:
                return recordings[0]
            if recordings:
                where = ", ".join(sorted(recording.pipeline for recording in recordings))
                raise NoRecordingError(
                    f"{self.root} holds {len(recordings)} recordings of {run.task_id} ({where}); "
                    "name the folder of one of them"
                )
        under = f"attack {run.recording!r}" if run.recording else "no attack"
        raise NoRecordingError(
            f"{self.root} holds no recording of {run.task_id} in {run.dataset} "
            f"with {under}, run {run.run_index}{self._damaged()}"
        )


def _resolve(argument: str, base: Path) -> Path:
    path = Path(argument).expanduser()
    candidates = [path] if path.is_absolute() else [Path.cwd() / path, base / path]
    for candidate in candidates:
        if os.path.exists(candidate):
            return candidate.resolve()
    tried = " and ".join(str(candidate) for candidate in candidates)
    raise TranscriptError(f"replay:{argument}: there is nothing at {tried}")


class ReplayModel(OfflineModel):
    """Gives the recorded answers in their order; the conversation tells which is next."""

    KIND = "replay"

    def __init__(self, name: str, transcript: Transcript) -> None:
        super().__init__(name)
        self._transcript = transcript

    def planted(self, contents: Mapping[str, str]) -> None:
        """Refuse to answer for other contents than the recorded ones."""
        if dict(contents) != dict(self._transcript.contents):
            differ = sorted(
                vector
                for vector in contents.keys() | self._transcript.contents.keys()
                if contents.get(vector) != self._transcript.contents.get(vector)
            )
            raise NoRecordingError(
                f"{self._transcript.source} was recorded with other contents in "
                f"{', '.join(differ)}; replay it with --attack recorded"
            )

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Return the next recorded response; no tokens are spent, so none are counted."""
        position = sum(isinstance(message, ModelResponse) for message in messages)
        responses = self._transcript.responses
        if position < len(responses) and not self._failed_at(position):
            response = copy(responses[position])
            response.usage = RequestUsage()
            response.model_name = self._name
            response.provider_name = self.KIND
            return response
        if self._transcript.error is not None:
            raise RecordedError(self._transcript.error)
        raise NoRecordingError(
            f"{self._transcript.source} holds {len(responses)} responses; the run asked for another"
        )

    def _failed_at(self, position: int) -> bool:
        """Whether the recorded run failed although this response would have ended it."""
        response = self._transcript.responses[position]
        asks = any(isinstance(part, ToolCallPart) for part in response.parts)
        return self._transcript.error is not None and not asks


def _build(config: ReplayConfig, base: Path) -> ReplaySource:
    return ReplaySource(config.argument, base)


component = Component(ReplayConfig, _build)
