"""Reading the files of a job."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from pytest_siren.jobs.records import (
    CONFIG_FILE,
    EXECUTION_FILE,
    INDEX_FILE,
    RESULT_FILE,
    SCHEMA_VERSION,
    Execution,
    IndexEntry,
    JobConfig,
    Result,
)
from pytest_siren.yamlpos.files import read_bytes
from pytest_siren.yamlpos.reader import decode_yaml
from pytest_siren.yamlpos.scalars import resolve_dumped

T = TypeVar("T")

_JOB_CONFIG = TypeAdapter(JobConfig)
_RESULT = TypeAdapter(Result)
_INDEX_ENTRY = TypeAdapter(IndexEntry)


class RecordError(Exception):
    """A file of a job is missing, damaged, or written by a newer version."""


@dataclass(frozen=True)
class Unreadable:
    """A line of an index that could not be read."""

    path: Path
    line: int
    """1-based."""
    reason: str


def load_config(job: Path) -> JobConfig:
    """Return the configuration of the job in the folder ``job``. Raises ``RecordError``."""
    path = job / CONFIG_FILE
    values = load_document(path)
    _check_version(path, values)
    known = {**values, "values": values}
    return _validated(path, _JOB_CONFIG, known)


def load_document(path: Path, part: Callable[[bytes], bytes] = bytes) -> dict[str, Any]:
    """Return the mapping that the YAML file ``path`` holds. Raises ``RecordError``.

    ``part`` may take away what is not wanted before it is parsed.
    """
    root, problems = decode_yaml(part(_read(path)), path, resolve_dumped)
    if problems:
        raise RecordError(str(problems[0]))
    values = None if root is None else root.plain()
    if not isinstance(values, dict):
        raise RecordError(f"{path}: not a mapping of fields to values")
    return values


def iter_index(job: Path, unreadable: list[Unreadable] | None = None) -> Iterator[IndexEntry]:
    """Yield the lines of the job's index in the order in which they were written.

    A line that cannot be read is added to ``unreadable``; without that list it raises
    ``RecordError``. A job that has no index yet has no lines.
    """
    path = job / INDEX_FILE
    if not path.exists():
        return
    # Text would be split at more than newlines, and one torn character would spoil it all.
    for number, line in enumerate(_read(path).split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            yield _index_entry(line)
        except ValueError as error:
            if unreadable is None:
                raise RecordError(f"{path}:{number}: {_one_line(error)}") from error
            unreadable.append(Unreadable(path, number, _one_line(error)))


def load_result(run_dir: Path) -> Result:
    """Return the result of the attempt in the folder ``run_dir``. Raises ``RecordError``."""
    path = run_dir / RESULT_FILE
    return _validated(path, _RESULT, _document(path))


def load_execution(run_dir: Path) -> Execution:
    """Return all that happened in the attempt in the folder ``run_dir``. Raises ``RecordError``."""
    # pydantic-ai is slow to import, and only this function needs it.
    from pytest_siren.jobs.messages import load_messages, load_usage

    path = _transcript(run_dir)
    document = _document(path)
    try:
        return Execution(
            task_id=document["task_id"],
            run_id=document["run_id"],
            execution_id=document["execution_id"],
            timestamp=_time(document["timestamp"]),
            trace_id=document["trace_id"],
            span_id=document["span_id"],
            messages=load_messages(document["messages"]),
            usage=load_usage(document["usage"]),
            attacks=_contents(document["attacks"]),
            schema_version=document["schema_version"],
            status=document["status"],
        )
    except KeyError as error:
        raise RecordError(f"{path}: the field {error} is missing") from error
    except (TypeError, ValueError) as error:
        raise RecordError(f"{path}: {_one_line(error)}") from error


def load_transcript(run_dir: Path) -> dict[str, Any]:
    """Return the fields of the attempt's ``execution.json`` as they are. Raises ``RecordError``.

    Far quicker than ``load_execution``, which makes messages of pydantic-ai of them.
    """
    return _document(_transcript(run_dir))


def load_attacks(run_dir: Path) -> dict[str, str]:
    """Return what the attempt in the folder ``run_dir`` planted, by the name of the vector.

    Raises ``RecordError``, also when transcripts were not kept.
    """
    path = _transcript(run_dir)
    try:
        return _contents(_document(path).get("attacks"))
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{path}: {_one_line(error)}") from error


def _transcript(run_dir: Path) -> Path:
    """Return the file of what was said and done, compressed or not."""
    path = run_dir / EXECUTION_FILE
    compressed = run_dir / f"{EXECUTION_FILE}.gz"
    if compressed.exists():
        return compressed
    if not path.exists() and (run_dir / RESULT_FILE).exists():
        raise RecordError(f"{path} was not kept (see --siren-transcripts)")
    return path


def _index_entry(line: bytes) -> IndexEntry:
    entry = _INDEX_ENTRY.validate_json(line)
    path = entry.path
    if path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise ValueError(f"the path {entry.path!r} leads out of the job's folder")
    return entry


def _contents(attacks: Any) -> dict[str, str]:
    contents: dict[str, str] = {}
    if attacks is None:
        return contents
    if not isinstance(attacks, dict):
        raise ValueError("attacks is not a mapping of injection vectors")
    for vector, attack in attacks.items():
        if attack["kind"] != "str":
            raise ValueError(f"the attack on {vector!r} is of kind {attack['kind']!r}, not 'str'")
        contents[vector] = str(attack["content"])
    return contents


def _document(path: Path) -> dict[str, Any]:
    try:
        document = from_json(_read(path))
    except ValueError as error:
        raise RecordError(f"{path}: not valid JSON: {error}") from error
    _check_version(path, document)
    return document  # type: ignore[no-any-return]


def _check_version(path: Path, document: Any) -> None:
    if not isinstance(document, dict):
        raise RecordError(f"{path}: not a mapping of fields to values")
    version = document.get("schema_version")
    if version is None:
        raise RecordError(f"{path}: no schema_version, so it is not a record of pytest-siren")
    if version != SCHEMA_VERSION:
        raise RecordError(
            f"{path}: schema_version is {version!r}, this version of pytest-siren reads "
            f"{SCHEMA_VERSION}: update pytest-siren"
        )


def _validated(path: Path, adapter: TypeAdapter[T], document: dict[str, Any]) -> T:
    try:
        return adapter.validate_python(document)
    except ValidationError as error:
        raise RecordError(f"{path}: {_one_line(error)}") from error


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _read(path: Path) -> bytes:
    try:
        data = read_bytes(path)
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise RecordError(f"{path}: not a whole file of gzip: {error}") from error
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}") from error


def _one_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        return f"{where}: {first['msg']}" if where else first["msg"]
    return " ".join(str(error).split())
