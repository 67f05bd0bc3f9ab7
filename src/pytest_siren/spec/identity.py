"""Identities: hashes that say which job and which run a record belongs to."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pytest_siren.spec.jobspec import ComponentSpec, JobSpec

_LENGTH = 16


def identity(data: Mapping[str, Any]) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of ``data`` as canonical JSON.

    Canonical: keys sorted, no spaces, ASCII only. Raises ``TypeError`` for what JSON has no word
    for, and ``ValueError`` for infinity and not-a-number.
    """
    _check(data, "data")
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return _hash(text)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:_LENGTH]


def job_identity(job: JobSpec, sources: Mapping[str, str] | None = None) -> str:
    """Return the identity of the configuration of ``job``.

    Dataset, agent with its model, attack, and what ``finish`` changes enter; how often, how fast,
    within which limits, where and under which labels it runs do not. ``sources`` maps files that
    the configuration only names (tasks, tools, planted contents) to digests of what they hold.
    """
    attack = None if job.attack is None else {**_part(job.attack), "name": job.attack.name}
    data = {"dataset": _part(job.dataset), "agent": _part(job.agent), "attack": attack}
    if job.finish:
        data["finish"] = dict(job.finish)
    return identity({**data, "sources": dict(sources)} if sources else data)


def source_digests(paths: Iterable[Path], base: Path) -> dict[str, str]:
    """Return the SHA-256 of each file, by its path relative to ``base``."""
    return {
        os.path.relpath(path, base).replace(os.sep, "/"): _digest(path) for path in sorted(paths)
    }


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run_identity(job_identity: str, task_id: str, run_index: int) -> str:
    """Return the identity of one run of the job with that identity."""
    # What ``identity`` would make of these three, at a third of the time: sessions have many runs.
    job, task = json.dumps(job_identity), json.dumps(task_id)
    return _hash(f'{{"job":{job},"run_index":{run_index},"task_id":{task}}}')


def _part(component: ComponentSpec) -> dict[str, Any]:
    return {"type": component.type, "config": component.raw}


def _check(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{where} has the key {key!r}, which is not a string")
            _check(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check(item, f"{where}[{index}]")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}, which JSON cannot hold")
    elif not (value is None or isinstance(value, str | int)):
        raise TypeError(f"{where} is of type {type(value).__name__}, which JSON cannot hold")
