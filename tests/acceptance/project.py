"""A folder with eval files, and real pytest sessions in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

_MOST_SECONDS = 240
"""A session that takes longer hangs."""
_NOTED = """
scripted_answer = answer

def answer(how, messages):
    if how != "{name}":
        return scripted_answer(how, messages)
    with open("asked.txt", "a") as asked:
        asked.write("x")
    return {name}(messages)
"""


@dataclass
class Project:
    """A folder with eval files."""

    pytester: pytest.Pytester
    args: Sequence[str] = ()

    @property
    def path(self) -> Path:
        return self.pytester.path

    def write(self, name: str, text: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
        return path

    def use_model(self, name: str, source: str) -> None:
        """Let the eval file's model be ``scripted:NAME``, and note how often it is asked.

        ``source`` defines a function ``NAME``, which takes messages and returns parts.
        """
        with open(self.path / "conftest.py", "a", encoding="utf-8") as conftest:
            conftest.write(source + _NOTED.format(name=name))
        eval_file = self.path / "evals/eval_mail.yaml"
        eval_file.write_text(eval_file.read_text().replace("scripted:echo", f"scripted:{name}"))

    def asked(self) -> int:
        """Return how often the model of ``use_model`` was asked."""
        path = self.path / "asked.txt"
        return len(path.read_text()) if path.exists() else 0

    def run(self, *args: str) -> pytest.RunResult:
        """Run a real pytest session in a process of its own."""
        return self.pytester.runpytest_subprocess(*self.args, *args, timeout=_MOST_SECONDS)

    def jobs(self) -> list[Path]:
        return sorted(path.parent for path in self.path.glob("jobs/*/config.yaml"))

    def results(self) -> list[dict[str, Any]]:
        """Return every recorded result.json, in the order of task and run."""
        found = [json.loads(path.read_text()) for path in self.path.glob("jobs/*/*/*/result.json")]
        return sorted(found, key=lambda result: (result["task_id"], result["run_index"]))

    def executions(self) -> list[dict[str, Any]]:
        return [
            json.loads(path.read_text()) for path in self.path.glob("jobs/*/*/*/execution.json")
        ]
