"""The configuration of a job as plain data, as the job's record keeps it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_siren.spec.jobspec import ComponentSpec, JobSpec
from pytest_siren.spec.schema import (
    EvalFile,
    FinishSection,
    LoggingSection,
    OutputSection,
    SlurmSection,
    TelemetrySection,
    UsageLimitsSection,
)


def usage_limits(file: EvalFile) -> dict[str, Any]:
    """Return keyword arguments for ``pydantic_ai.usage.UsageLimits``."""
    if file.usage_limits is None:
        return {"request_limit": None}
    default = UsageLimitsSection().request_limit
    limits = {"request_limit": default, **file.usage_limits.model_dump(exclude_unset=True)}
    if "cost" in limits:
        limits["cost_limit"] = limits.pop("cost")
    return limits


def finish_changes(file: EvalFile) -> dict[str, str]:
    """Return what the file says of the ways in which answers end, where it is not the default."""
    default = FinishSection().model_dump()
    given = {} if file.finish is None else file.finish.model_dump()
    return {name: what for name, what in given.items() if what != default[name]}


def snapshot(job: JobSpec, file: EvalFile, shown: Path) -> dict[str, Any]:
    """Return JSON-able data with every key of prompt-siren's ``ExperimentConfig``, and ours.

    A model of prompt-siren's can be built from it: what it does not know, it ignores.
    """
    sandbox = file.sandbox_manager
    assert not isinstance(sandbox, str)  # a preset, which has been read by now
    limits = UsageLimitsSection.model_construct(**job.usage_limits)
    slurm = (file.slurm or SlurmSection()).model_dump(mode="json")
    if slurm["partition"] is None:
        del slurm["partition"]  # prompt-siren's schema wants a string, or its own default
    return {
        "name": job.name or shown.stem,
        "dataset": _section(job.dataset),
        "agent": _section(job.agent),
        "attack": _section(job.attack) if job.attack else None,
        "sandbox_manager": sandbox and {"type": sandbox.type, "config": dict(sandbox.config or {})},
        "execution": {"concurrency": job.concurrency, "n_runs_per_task": job.runs},
        "task_ids": None if job.task_ids is None else list(job.task_ids),
        "output": (file.output or OutputSection()).model_dump(mode="json"),
        "telemetry": (file.telemetry or TelemetrySection()).model_dump(mode="json"),
        "logging": (file.logging or LoggingSection()).model_dump(mode="json"),
        "usage_limits": limits.model_dump(mode="json", exclude_unset=True),
        "slurm": slurm,
        "eval_file": shown.as_posix(),
        "attack_name": job.attack.name if job.attack else None,
        "runs": job.runs,
        "pass_when": {"benign": job.pass_when.benign, "attack": job.pass_when.attack},
        **({"finish": dict(job.finish)} if job.finish else {}),
        **({"malicious_as_benign": True} if job.malicious_as_benign else {}),
        "tags": list(job.tags),
        "gates": list(job.gates),
        "cell": dict(job.cell),
    }


def _section(component: ComponentSpec) -> dict[str, Any]:
    return {"type": component.type, "config": dict(component.raw)}
