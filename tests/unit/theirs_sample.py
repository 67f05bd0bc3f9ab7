"""Folders of jobs as prompt-siren writes them, by the documentation of its records."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

START = datetime(2026, 1, 2, 3, 4, 5)
DATASET: Mapping[str, Any] = {
    "type": "agentdojo",
    "config": {"suite_name": "banking", "version": "v1.2.2"},
}
ATTACK: Mapping[str, Any] = {
    "type": "template_string",
    "config": {"attack_template": "Please {{ goal }}!\n", "template_short_name": "please"},
}


@dataclass
class TheirJob:
    """Writes a job, a run at a time."""

    path: Path
    attack: Mapping[str, Any] | None = None
    dataset: Mapping[str, Any] = field(default_factory=lambda: DATASET)
    model: str = "openai:gpt-5"
    runs: int = 1
    changes: Mapping[str, Any] = field(default_factory=dict)
    _written: int = 0

    def __post_init__(self) -> None:
        self.path.mkdir(parents=True)
        mode = "benign" if self.attack is None else "attack"
        config = {
            "name": "default_experiment",
            "agent": {
                "type": "plain",
                "config": {
                    "model": self.model,
                    "model_settings": {},
                    "tool_result_serialization_mode": "json",
                },
            },
            "dataset": dict(self.dataset),
            "attack": self.attack and dict(self.attack),
            "sandbox_manager": None,
            "execution": {"concurrency": 4, "n_runs_per_task": self.runs},
            "task_ids": None,
            "output": {"jobs_dir": "jobs", "job_name": None},
            "telemetry": {"trace_console": False, "otel_endpoint": None},
            "logging": {"level": "INFO", "file": True},
            "usage_limits": {
                "request_limit": None,
                "tool_calls_limit": None,
                "input_tokens_limit": None,
                "output_tokens_limit": None,
                "total_tokens_limit": None,
                "count_tokens_before_request": False,
            },
            "slurm": {"partition": "learnfair", "time_minutes": 240, "constraint": None},
            "job_name": self.path.name,
            "execution_mode": mode,
            "created_at": START.isoformat(),
            "n_runs_per_task": self.runs,
            **self.changes,
        }
        head = f"# Job: {self.path.name}\n# Created: {START.isoformat()}\n# Mode: {mode}\n\n"
        text = yaml.dump(config, default_flow_style=False, sort_keys=False)
        (self.path / "config.yaml").write_text(head + text)

    def record(
        self,
        task_id: str,
        *,
        benign: float | None = 1.0,
        attack: float | None = None,
        error: str | None = None,
        texts: Sequence[str] = ("done",),
        attacks: Mapping[str, str] | None = None,
    ) -> Path:
        """Write a run; return its folder. An error comes with scores of 0, as there."""
        run_id = f"{self._written:08x}"
        started = START + timedelta(minutes=self._written)
        finished = started + timedelta(seconds=2.5)
        self._written += 1
        folder = self.path / re.sub(r"_+", "_", re.sub(r"[^\w-]", "_", task_id)).strip("_") / run_id
        folder.mkdir(parents=True)
        info = error and {
            "exception_type": error,
            "exception_message": "it went wrong",
            "exception_traceback": "Traceback (most recent call last): ...",
            "occurred_at": finished.isoformat(),
        }
        scores = {"benign_score": 0.0 if error else benign, "attack_score": attack}
        run = {"task_id": task_id, "run_id": run_id}
        times = {"started_at": started.isoformat(), "finished_at": finished.isoformat()}
        result = {**run, **times, **scores, "exception_info": info}
        (folder / "result.json").write_text(json.dumps(result, indent=2))
        execution = {
            **run,
            "execution_id": "abcdef01",
            "timestamp": finished.isoformat(),
            "trace_id": "0" * 31 + "1",
            "span_id": "0" * 15 + "2",
            "messages": [] if error else _messages(texts),
            "usage": {"input_tokens": 0 if error else 40, "output_tokens": 0 if error else 2},
            "attacks": attacks
            and {name: {"content": text, "kind": "str"} for name, text in attacks.items()},
        }
        (folder / "execution.json").write_text(json.dumps(execution, indent=2))
        line = {
            **run,
            "timestamp": finished.isoformat(),
            **scores,
            "exception_type": error,
            "path": str(folder.relative_to(self.path)),
        }
        with (self.path / "index.jsonl").open("a") as index:
            index.write(json.dumps(line) + "\n")
        (self.path / "index.jsonl.lock").touch()
        return folder


def _messages(texts: Sequence[str]) -> list[dict[str, Any]]:
    time = START.isoformat() + "Z"
    messages: list[dict[str, Any]] = []
    for text in texts:
        prompt = {"content": "do it", "timestamp": time, "part_kind": "user-prompt"}
        answer = {"content": text, "part_kind": "text"}
        messages.append({"parts": [prompt], "instructions": None, "kind": "request"})
        messages.append(
            {"parts": [answer], "model_name": "gpt-5", "timestamp": time, "kind": "response"}
        )
    return messages
