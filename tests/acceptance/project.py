"""A folder with eval files, and real pytest sessions in it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp, mkstemp
from textwrap import dedent
from time import monotonic
from typing import Any

import pytest

from tests.acceptance.forks import Forks, Process

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
class Started:
    """A session that was left to itself, and the file that it prints to."""

    process: Process
    output: Path

    def text(self) -> str:
        """Return what it has printed so far."""
        return self.output.read_text(encoding="utf-8")

    def finish(self, timeout: float | None = None) -> str:
        """Return what it has printed when it has ended.

        Raises ``TimeoutExpired`` where that takes more than ``timeout`` seconds.
        """
        self.process.wait(timeout)
        return self.text()

    @property
    def returncode(self) -> int | None:
        return self.process.poll()

    def send_signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()


@dataclass
class Project:
    """A folder with eval files."""

    pytester: pytest.Pytester
    forks: Forks
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
        if not self.forks.can_start(os.environ):
            return self.run_anew(*args)
        temporary = mkdtemp(prefix="runpytest-", dir=self.path)
        return self.python("-m", "pytest", f"--basetemp={temporary}", *self.args, *args)

    def run_anew(self, *args: str) -> pytest.RunResult:
        """Run a session that imports everything itself, for tests of what it imports."""
        return self.pytester.runpytest_subprocess(*self.args, *args, timeout=_MOST_SECONDS)

    def python(self, *args: str) -> pytest.RunResult:
        """Run ``python ARGS``, where everything is imported already."""
        begun = monotonic()
        paths = [self.path / "stdout", self.path / "stderr"]
        with open(paths[0], "wb") as output, open(paths[1], "wb") as errors:
            process = self.forks.start(
                args, Path.cwd(), output=output.fileno(), errors=errors.fileno()
            )
            try:
                code = process.wait(_MOST_SECONDS)
            finally:
                process.kill()
        shown = [path.read_text(encoding="utf-8") for path in paths]
        for text, stream in zip(shown, (sys.stdout, sys.stderr), strict=True):
            print(text, file=stream)
        return pytest.RunResult(code, *(text.splitlines() for text in shown), monotonic() - begun)

    def spawn(self, output: int, *args: str, given: int | None = None) -> Process:
        """Start a real pytest session in a process group of its own, which prints to a file."""
        return self.forks.start(
            ["-m", "pytest", *args],
            self.path,
            output=output,
            errors=output,
            given=given,
            group=0,
        )

    def run_in(self, folder: str, *args: str) -> pytest.RunResult:
        """Run a real pytest session that is started in a folder of the project."""
        before = Path.cwd()
        os.chdir(self.path / folder)
        try:
            return self.run(*args)
        finally:
            os.chdir(before)

    def start(self, *args: str) -> Started:
        """Start a real pytest session, and leave it to itself."""
        number, name = mkstemp(prefix="output-", dir=self.path)
        with open(number, "wb") as output:
            return Started(self.spawn(output.fileno(), *self.args, *args), Path(name))

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
