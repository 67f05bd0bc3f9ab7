"""Reading YAML, JSON and compressed JSON of a job, whatever is in it."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from pytest_siren.yamlpos.files import read_bytes
from pytest_siren.yamlpos.reader import decode_yaml
from pytest_siren.yamlpos.scalars import resolve_dumped


class RecordError(Exception):
    """A file of a job is missing, damaged, or written by a newer version."""


def load_document(path: Path, part: Callable[[bytes], bytes] = bytes) -> dict[str, Any]:
    """Return the mapping that the YAML file ``path`` holds. Raises ``RecordError``.

    ``part`` may take away what is not wanted before it is parsed.
    """
    root, problems = decode_yaml(part(read_record(path)), path, resolve_dumped)
    if problems:
        raise RecordError(str(problems[0]))
    values = None if root is None else root.plain()
    if not isinstance(values, dict):
        raise RecordError(f"{path}: not a mapping of fields to values")
    return values


def load_json(path: Path) -> Any:
    """Return what the JSON file ``path``, compressed or not, holds. Raises ``RecordError``."""
    return parse_json(path, read_record(path))


def parse_json(path: Path, data: bytes) -> Any:
    """Return what ``data``, the content of ``path``, holds. Raises ``RecordError``."""
    try:
        return from_json(data)
    except ValueError as error:
        raise RecordError(f"{path}: not valid JSON: {error}") from error


def read_record(path: Path) -> bytes:
    """Return the content of ``path``, decompressed. Raises ``RecordError``."""
    try:
        data = read_bytes(path)
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise RecordError(f"{path}: not a whole file of gzip: {error}") from error
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}") from error


def one_line(error: Exception) -> str:
    """Return what ``error`` says, and where, in a line."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        return f"{where}: {first['msg']}" if where else first["msg"]
    return " ".join(str(error).split())
