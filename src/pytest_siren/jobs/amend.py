"""Changes of a job's configuration when it is gone on with."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_siren.jobs.read import load_config
from pytest_siren.jobs.records import CONFIG_FILE
from pytest_siren.jobs.write import Form, write

_CHANGEABLE = (
    *("execution", "telemetry", "output", "usage_limits", "runs", "gates", "pass_when"),
    *("dataset_name", "dataset_suite", "model_label", "model_kind"),
)


def amend(job: Path, now: Mapping[str, Any], override: Mapping[str, Any]) -> None:
    """Bring the configuration of ``job`` up to what it is resumed with.

    ``now`` is what a new job would be recorded with; of it, what may change is taken over.
    ``override``, unless it is empty, joins the history of overrides. Raises ``RecordError`` and
    ``OSError``.
    """
    before = dict(load_config(job).values)
    after = {**before, **{key: now[key] for key in _CHANGEABLE if key in now}}
    after["planned_runs"] = max(before.get("planned_runs") or 0, now["planned_runs"])
    after["n_runs_per_task"] = now["runs"]
    if override:
        entry = {"at": datetime.now(UTC).isoformat(), **override}
        after["overrides"] = [*(before.get("overrides") or ()), entry]
        after["invocation"] = now["invocation"]
    if after != before:
        write(job / CONFIG_FILE, after, Form.REVISION)
