"""Sandboxes are found by name and given to the environment or agent that asks for one."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
import yaml

from pytest_siren.environments.sandbox import LocalSandboxConfig, LocalSandboxes
from pytest_siren.evaluation.tasks import BenignTask
from pytest_siren.jobs.records.naming import CONFIG_FILE
from tests.acceptance.conftest import Project

SHELL = """
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from pydantic import BaseModel
from pydantic_ai.tools import ToolDefinition

from pytest_siren import BenignTask, Component, Kind, Prompt, ToolOutcome

TOOL = ToolDefinition(
    name="shell",
    description="Executes a command",
    parameters_json_schema={"type": "object", "properties": {"query": {"type": "string"}}},
)


@dataclass(frozen=True)
class Shell:
    sandboxes: object = None
    vectors = {"note": "hello"}

    def with_sandbox(self, sandboxes):
        return replace(self, sandboxes=sandboxes)

    def tools(self, task):
        return [TOOL]

    @asynccontextmanager
    async def open(self, task, contents):
        async with self.sandboxes.open(task) as sandbox:
            await sandbox.write_file("notes/note.txt", contents.get("note", "hello"))
            yield sandbox

    def prompt(self, state, task):
        return Prompt(task.prompt)

    async def call(self, state, call):
        done = await state.exec(["sh", "-c", "cat note.txt; echo ran > log; pwd"], cwd="notes")
        return ToolOutcome(done.stdout)


async def ran(evidence):
    return float(await evidence.post_state.read_file("notes/log") == b"ran\\n")


class Dataset:
    name, suite, user_name, malicious_tasks, couples = "shell", None, "Ada", [], []

    def __init__(self):
        self.environment = Shell()
        self.benign_tasks = [BenignTask("read", "Read the note.", {"ran": ran})]


class Nothing(BaseModel):
    pass


def pytest_siren_components_register(registry):
    registry.add(Kind.DATASET, "shell", Component(Nothing, lambda config, folder: Dataset()))
"""
EVAL = """
dataset: {{type: shell}}
agent: {{config: {{model: "scripted:call-shell"}}}}
{sandbox}
"""
LOCAL = "sandbox_manager: {type: local}"


@pytest.fixture
def shell(distributed: Project) -> Project:
    (distributed.path / "evals/eval_mail.yaml").unlink()
    distributed.write("evals/conftest.py", SHELL)
    return distributed


def evaluate(project: Project, sandbox: str) -> str:
    project.write("evals/eval_shell.yaml", EVAL.format(sandbox=sandbox))
    return project.run("evals").stdout.str()


def test_an_environment_works_in_the_sandbox_of_its_job(shell: Project) -> None:
    output = evaluate(shell, LOCAL)
    [result] = shell.results()
    assert result["benign_score"] == 1.0
    said, folder = result["output"].rsplit("hello", 1)
    assert said == "the tool said: "
    assert "siren-sandbox-" in folder
    assert not Path(folder.strip()).exists()
    assert "has no effect" not in output


@pytest.mark.inside
@pytest.mark.parametrize(
    ("sandbox", "message"),
    [
        (
            "",
            "evals/eval_shell.yaml: the environment of dataset 'shell' works in a sandbox: "
            "give sandbox_manager, such as {type: local}; known: local",
        ),
        (
            "sandbox_manager: {type: lokal}",
            "evals/eval_shell.yaml:4: unknown sandbox 'lokal' (did you mean 'local'?); "
            "known: local",
        ),
        (
            "sandbox_manager: {type: local, config: {timeuot: 3}}",
            "evals/eval_shell.yaml:4: unknown key 'timeuot' in sandbox_manager.config "
            "(did you mean 'timeout'?)",
        ),
    ],
)
def test_a_sandbox_that_is_needed_must_be_usable(
    shell: Project, sandbox: str, message: str
) -> None:
    assert message in evaluate(shell, sandbox)


@pytest.mark.inside
def test_a_sandbox_that_is_used_enters_the_identity(shell: Project) -> None:
    other_limit = "sandbox_manager: {type: local, config: {timeout: 9.0}}"
    for sandbox in (LOCAL, "sandbox_manager: local", other_limit):
        evaluate(shell, sandbox)
    configs = [yaml.safe_load((job / CONFIG_FILE).read_text()) for job in shell.jobs()]
    local, named, other = (config["identity"] for config in configs)
    assert local == named != other


@pytest.mark.inside
def test_one_that_nobody_uses_is_noted_whatever_it_is(distributed: Project) -> None:
    path = distributed.path / "evals/eval_mail.yaml"
    before = path.read_text()
    distributed.run("evals")
    path.write_text(before + "sandbox_manager: {type: local-docker}\n")
    output = distributed.run("evals").stdout.str()
    assert "sandbox_manager has no effect yet: nothing is sandboxed" in " ".join(output.split())
    identities = {
        yaml.safe_load((job / CONFIG_FILE).read_text())["identity"] for job in distributed.jobs()
    }
    assert len(identities) == 1


async def _in_sandbox() -> None:
    manager = LocalSandboxes(LocalSandboxConfig(timeout=5.0))
    async with manager.open(BenignTask("t", "", {})) as sandbox:
        assert (await sandbox.exec(["cat"], input="in")).stdout == "in"
        failed = await sandbox.exec(["sh", "-c", "echo no >&2; exit 3"])
        assert (failed.returncode, failed.success, failed.stderr) == (3, False, "no\n")
        shown = await sandbox.exec(["env"], env={"GIVEN": "x"})
        names = {line.partition("=")[0] for line in shown.stdout.split()}
        assert names >= {"GIVEN", "HOME", "PATH"}
        assert "SECRET_OF_THE_SESSION" not in names
        with pytest.raises(TimeoutError):
            await sandbox.exec(["sh", "-c", "sleep 60 & echo $! > pid; wait"], timeout=0.5)
        child = Path(f"/proc/{int(await sandbox.read_file('pid'))}/stat")
        while child.exists() and child.read_text().rsplit(")", 1)[1].split()[0] != "Z":
            await asyncio.sleep(0.05)
        with pytest.raises(ValueError, match=r"^'\.\./x' is not in the sandbox$"):
            await sandbox.read_file("../x")
        with pytest.raises(FileNotFoundError):
            await sandbox.read_file("x")
        with pytest.raises(ValueError, match="cannot be the user 'root'"):
            await sandbox.exec(["id"], user="root")
    assert not os.path.exists(sandbox.folder)


def test_the_local_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_SESSION", "s")
    asyncio.run(asyncio.wait_for(_in_sandbox(), 60))
