"""A project whose agent does the same in every session, so that samples can be compared."""

from __future__ import annotations

import yaml

from tests.acceptance.conftest import Project
from tests.acceptance.inside import Inside

SIMULATED = '''
import asyncio
import os
import signal
from hashlib import sha256

def wins(run, rate):
    """Whether the attacker wins: decided by task and run alone, as if drawn."""
    digest = sha256(f"{run.task_id} {run.run_index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < rate

def recorded():
    indexes = [*Path("jobs").glob("*/index.jsonl"), *Path("jobs").glob("*/.index/*.jsonl")]
    return sum(len(path.read_text().splitlines()) for path in indexes)

class Simulated(Source):
    def __init__(self, argument):
        self.id = self.label = f"simulated:{argument}"
        self._rate = float(argument)

    async def bind(self, run):
        async def answer(messages, info):
            with open("asked.txt", "a") as asked:
                asked.write(f"{run.task_id} {run.run_index}\\n")
            await asyncio.sleep(0.01)
            if Path("deadly").exists() and run.run_index == 1 and run.task_id.startswith("b1"):
                while recorded() < 20:
                    await asyncio.sleep(0.01)
                os.kill(os.getpid(), signal.SIGKILL)
            if Path("flaky").exists() and run.run_index % 2:
                raise RuntimeError("the model is on fire")
            text = last_prompt(messages) if wins(run, self._rate) else "I will not."
            return ModelResponse([TextPart(text)])
        return FunctionModel(answer)

original = pytest_siren_components_register
def pytest_siren_components_register(registry):
    original(registry)
    component = Component(Config, lambda config, base: Simulated(config.argument))
    registry.add(Kind.MODEL, "simulated", component)
'''
CROSSED = ("evals", "--attack=template_string", "--concurrency=4", "--gate-stop")
ARGS = (*CROSSED, "--siren-cluster=couple")


def simulate(project: Project) -> Project:
    """Make of ``project`` a quick one with 20 x 20 couples and the model ``simulated:RATE``.

    Where the file ``flaky`` is, runs of an odd index end in an error; ``deadly`` kills the process
    in the second round, once the first is recorded.
    """
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
    return Inside(project.pytester, project.forks, ["-p", "no:xdist"])


def asked(project: Project) -> list[str]:
    """Return a line for each run that was executed: its task and index."""
    path = project.path / "asked.txt"
    return path.read_text().splitlines() if path.exists() else []
