"""The lines of an index that a table of runs needs, read in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from pytest_siren.evaluation.finish import Finish
from pytest_siren.jobs.ranges import MOST_AMOUNT, MOST_COUNT
from pytest_siren.jobs.read import RecordError, leads_out

_BLOCK = 4_000_000
"""Bytes that are decoded at a time."""
_MOST_NAMED = 5
"""Lines of one index that are named; the others are counted."""

Name = Annotated[str, msgspec.Meta(min_length=1)]
Score = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Amount = Annotated[float, msgspec.Meta(ge=0.0, le=MOST_AMOUNT)]
Seconds = Annotated[float, msgspec.Meta(ge=-MOST_AMOUNT, le=MOST_AMOUNT)]
"""Below 0 where an earlier version's clock was set back."""
Count = Annotated[int, msgspec.Meta(ge=0, le=MOST_COUNT)]


_NONE = -(2**60)
"""Of a number that is not there: of prompt-siren's lines, and of ours where they are damaged."""
_NUMBERS = ("run_index", "duration", "input_tokens", "output_tokens")


class Line(msgspec.Struct, frozen=True, gc=False):
    """What a table needs of a line of ``index.jsonl``; prompt-siren's lines have no ``status``."""

    task_id: str
    benign_score: Score | None
    attack_score: Score | None
    exception_type: str | None
    path: str
    run_id: str = ""
    status: Literal["scored", "error", "cancelled"] | None = None
    run_index: Count = _NONE
    identity: Name | None = None
    duration: Seconds = _NONE
    input_tokens: Count = _NONE
    output_tokens: Count = _NONE
    cost: Amount | None = None
    vectors: tuple[str, ...] = ()
    exposed: bool | None = None
    finish: Finish | None = None


_path_of = attrgetter("path")
_numbers_of = attrgetter(*_NUMBERS)
_decoder = msgspec.json.Decoder(Line)


def blocks(path: Path, problems: list[str]) -> Iterator[list[Line]]:
    """Yield the lines of the index ``path``, in their order, a few thousand at a time.

    What cannot be read is told in ``problems``. Raises ``RecordError`` when the file cannot be.
    """
    bad: list[str] = []
    number = 1
    try:
        with path.open("rb") as file:
            rest = b""
            while block := file.read(_BLOCK):
                held = rest + block if rest else block
                end = held.rfind(b"\n") + 1
                rest = held[end:]
                if end:
                    yield _decoded(path, memoryview(held)[:end], number, bad)
                    number += held.count(b"\n")
            if rest:
                yield _decoded(path, memoryview(rest), number, bad)
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}") from error
    problems += bad[:_MOST_NAMED]
    if len(bad) > _MOST_NAMED:
        problems.append(f"{path}: {len(bad) - _MOST_NAMED:,} more lines cannot be read")


def _decoded(path: Path, block: memoryview, number: int, bad: list[str]) -> list[Line]:
    """Return the lines of ``block``, the first of which has that number in the file."""
    try:
        lines = _decoder.decode_lines(block)
        # All paths at once, which may only raise a false alarm.
        paths = "\n".join(["", *map(_path_of, lines)])
        whole = not any(_NONE in _numbers_of(line) for line in lines)
        if whole and not (
            "\n/" in paths or ".." in paths or "\0" in paths or "\n\n" in paths + "\n"
        ):
            return lines
    except (msgspec.MsgspecError, ValueError):
        pass
    return list(_one_by_one(path, bytes(block), number, bad))


def _one_by_one(path: Path, block: bytes, number: int, bad: list[str]) -> Iterator[Line]:
    for at, text in enumerate(block.split(b"\n"), start=number):
        if not text.strip():
            continue
        try:
            line = _whole(_decoder.decode(text))
            if leads_out(line.path):
                raise ValueError(f"the path {line.path!r} leads out of the job's folder")
        except (msgspec.MsgspecError, ValueError) as error:
            bad.append(f"{path}:{at}: {' '.join(str(error).split())}")
        else:
            yield line


def _whole(line: Line) -> Line:
    """Return ``line`` with what prompt-siren does not write; of ours, nothing may be missing."""
    lacking = [name for name in _NUMBERS if getattr(line, name) == _NONE]
    if lacking and not (line.status is None and line.identity is None):
        raise ValueError(f"{lacking[0]}: it is missing")
    return msgspec.structs.replace(line, **dict.fromkeys(lacking, 0)) if lacking else line
