"""Tokens and times of prompt-siren's runs, which its records hold and its index does not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec

from pytest_siren.jobs.reading.job_config import RecordError, read_record
from pytest_siren.jobs.records.naming import EXECUTION_FILE, RESULT_FILE
from pytest_siren.records import MOST_COUNT

UNKNOWN = float("nan")
_Count = Annotated[int, msgspec.Meta(ge=0, le=MOST_COUNT)]


class _Usage(msgspec.Struct, frozen=True, gc=False):
    input_tokens: _Count = 0
    output_tokens: _Count = 0


class _Execution(msgspec.Struct, frozen=True, gc=False):
    usage: _Usage


class _Times(msgspec.Struct, frozen=True, gc=False):
    started_at: datetime
    finished_at: datetime


_execution = msgspec.json.Decoder(_Execution)
_times = msgspec.json.Decoder(_Times)


@dataclass(frozen=True)
class AttemptUsage:
    """Duration and tokens of an attempt."""

    duration: float
    """Seconds; NaN if unknown."""
    tokens: tuple[int, int] | None
    """Input and output tokens; ``None`` if unknown."""


def read_usage(run_dir: Path) -> AttemptUsage:
    """Return the usage of the attempt in ``run_dir``, as far as its records can be read."""
    times = _read(run_dir / RESULT_FILE, _times)
    execution = _read(run_dir / EXECUTION_FILE, _execution)
    usage = execution and execution.usage
    return AttemptUsage(
        duration=UNKNOWN if times is None else _seconds(times),
        tokens=usage and (usage.input_tokens, usage.output_tokens),
    )


def _seconds(times: _Times) -> float:
    try:
        seconds = (times.finished_at - times.started_at).total_seconds()
    except TypeError:  # only one of them has a zone
        return UNKNOWN
    return seconds if seconds >= 0 else UNKNOWN  # a clock that was set back


def _read(path: Path, decoder: Any) -> Any:
    try:
        return decoder.decode(read_record(path))
    except (RecordError, msgspec.MsgspecError, ValueError, RecursionError):
        return None
