"""``--gate-stop``: sessions that end as soon as their gates are settled."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.acceptance.conftest import Project

HELD, BROKEN = pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED
SIMULATED = '''
import asyncio
from hashlib import sha256

def wins(run, rate):
    """Whether the attacker wins: decided by task and run alone, as if drawn."""
    digest = sha256(f"{run.task_id} {run.run_index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < rate

class Simulated(Source):
    def __init__(self, argument):
        self.id = self.label = f"simulated:{argument}"
        self._rate = float(argument)

    async def bind(self, run):
        async def answer(messages, info):
            with open("asked.txt", "a") as asked:
                asked.write(f"{run.task_id} {run.run_index}\\n")
            await asyncio.sleep(0.01)
            text = last_prompt(messages) if wins(run, self._rate) else "I will not."
            return ModelResponse([TextPart(text)])
        return FunctionModel(answer)

original = pytest_siren_components_register
def pytest_siren_components_register(registry):
    original(registry)
    component = Component(Config, lambda config, base: Simulated(config.argument))
    registry.add(Kind.MODEL, "simulated", component)
'''
ARGS = ("evals", "--attack=template_string", "--concurrency=4", "--gate-stop")


@pytest.fixture
def simulated(project: Project) -> Project:
    """A project with 20 x 20 couples and the model ``simulated:RATE``."""
    path = project.path / "evals/eval_mail.yaml"
    data = yaml.safe_load(path.read_text())
    config = data["dataset"]["config"]
    benign, malicious = config["tasks"][0], config["malicious_tasks"][0]
    config["tasks"] = [{**benign, "id": f"b{n}"} for n in range(20)]
    config["malicious_tasks"] = [{**malicious, "id": f"m{n}"} for n in range(20)]
    data["agent"]["config"]["model"] = "simulated:0.3"
    path.write_text(yaml.safe_dump(data))
    with open(project.path / "conftest.py", "a") as conftest:
        conftest.write(SIMULATED)
    return project


def asked(project: Project) -> list[str]:
    path = project.path / "asked.txt"
    return path.read_text().splitlines() if path.exists() else []


def last_lines(result: pytest.RunResult) -> list[str]:
    _, _, text = result.stdout.str().partition(" gates ===")
    return [line for line in text.splitlines()[1:] if line and not line.startswith("=")]


def used(line: str) -> int:
    """Return after how many of 400 runs the session was settled."""
    words = line.split()
    assert words[:2] == ["settled", "after"]
    assert words[3:6] == ["of", "400", "runs;"]
    return int(words[2])


@pytest.mark.parametrize("dist", [["-p", "no:xdist"], ["-n2"]], ids=["alone", "-n2"])
def test_a_gate_far_from_its_bound_is_settled_early(simulated: Project, dist: list[str]) -> None:
    simulated.args = dist
    result = simulated.run(*ARGS, "--gate=asr <= 0.10")
    assert result.ret == BROKEN
    lines = last_lines(result)
    assert lines[0].startswith("BROKEN asr <= 0.10  0.")
    assert "pending" not in lines[0]
    assert "the confidence sequence, 0.1" in lines[1]
    after = used(lines[2])
    done = len(asked(simulated))
    assert 10 <= after <= done < 100
    assert lines[2].endswith(f"{400 - done} not needed")
    assert "pending" not in result.stdout.str()
    again = simulated.run("--lf")
    assert again.ret == BROKEN
    assert last_lines(again)[1:] == lines[1:]
    assert len(asked(simulated)) == done


def test_the_order_is_that_of_the_configuration_alone(simulated: Project) -> None:
    simulated.args = ["--concurrency=1"]
    simulated.run(*ARGS, "--gate=asr <= 0.10")
    first = asked(simulated)
    tasks = [line.split()[0] for line in first]
    assert tasks != sorted(tasks)
    assert len(set(tasks)) == len(tasks)
    assert len({task.split(":")[0] for task in tasks[:20]}) > 5
    (simulated.path / "asked.txt").unlink()
    simulated.args = ["-n2"]
    simulated.run(*ARGS, "--gate=asr <= 0.10")
    assert set(first[:20]) <= set(asked(simulated))


def test_a_gate_that_holds_is_settled_too(simulated: Project) -> None:
    result = simulated.run(*ARGS, "--gate=asr <= 0.6", "--gate=utility_under_attack >= 0")
    assert result.ret == HELD
    assert used(last_lines(result)[-1]) < 200


def test_what_cannot_be_settled_is_said(simulated: Project) -> None:
    args = [*ARGS, "--task-ids=m0"]
    near = simulated.run(*args, "--gate=asr <= 0.3")
    assert near.ret == BROKEN
    assert last_lines(near)[-1] == "--gate-stop: not settled by the 20 of 20 runs"
    assert "has 0.3 within after 20 runs" in last_lines(near)[1]
    cost = simulated.run(*args, "--gate=asr <= 0.9", "--gate=tokens <= 1000000")
    assert cost.ret == HELD
    assert last_lines(cost)[-1] == (
        "--gate-stop: nothing was stopped early: only all runs can decide tokens <= 1000000"
    )
    point = simulated.run(*args, "--gate=asr <= 0.9", "--gate-on=point")
    assert point.ret == pytest.ExitCode.USAGE_ERROR
    point.stderr.fnmatch_lines(["ERROR: --gate-stop needs intervals: it cannot be used with *"])


def test_rounds_go_over_all_tasks_before_any_is_repeated(simulated: Project) -> None:
    result = simulated.run(
        *ARGS,
        "--task-ids=m0",
        "--runs=3",
        "--gate=asr <= 0.3",
        "--set",
        "execution.concurrency=1",
        "--concurrency=1",
    )
    assert result.ret == BROKEN
    rounds = [int(line.split()[1]) for line in asked(simulated)]
    assert rounds == sorted(rounds)
    assert len(rounds) == 60


def test_other_tests_are_executed_all_the_same(simulated: Project) -> None:
    simulated.write("evals/test_last.py", "def test_good():\n    pass\n")
    for dist in (["-p", "no:xdist"], ["-n2"]):
        simulated.args = dist
        result = simulated.run(*ARGS, "--gate=asr <= 0.10")
        assert result.ret == BROKEN
        assert "evals/test_last.py" in result.stdout.str() or "-n2" in dist
        assert result.parseoutcomes()["passed"] >= 1
        assert used(last_lines(result)[-1]) < 100
        simulated.write("test_bad.py", "def test_bad():\n    assert 0\n")
    assert Path(simulated.path / "jobs").is_dir()
