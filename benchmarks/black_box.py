"""What serving a run costs: ``python -m benchmarks.black_box [--couples N] [--runs N]``.

The same couples of AgentDojo's workspace suite, on the same model behind the same server, by the
agent ``plain`` and by an agent in a process of its own that calls the tools over MCP and asks the
model through the endpoint. What counts is the CPU of the process of the runs. Then runs of one
request each through the endpoint: how much longer than their latency allows they take.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from pydantic_ai.usage import UsageLimits

from benchmarks.report import say
from benchmarks.serving import ROOT, serving
from benchmarks.work import ALL_COUPLES, Work, couples, one_call
from pytest_siren.agents.addresses import Addresses
from pytest_siren.agents.black_box import BlackBox, BlackBoxConfig
from pytest_siren.agents.plain import PlainAgent, PlainAgentConfig
from pytest_siren.attacks.template_string import TemplateStringAttack, TemplateStringConfig
from pytest_siren.datasets import inline
from pytest_siren.datasets.agentdojo import AgentDojoConfig, load
from pytest_siren.datasets.inline import InlineConfig
from pytest_siren.evaluation.components import SHARED, SharedParts
from pytest_siren.evaluation.models import ModelSource, RunContext
from pytest_siren.evaluation.run import RunPlan, execute
from pytest_siren.evaluation.scores import Status
from pytest_siren.evaluation.world import World
from pytest_siren.models.api import api_model
from pytest_siren.serving.shared import SharedServer, serve

CPU_LIMIT = 2.5
THROUGHPUT_LIMIT = 1.3


class OutsideAgent(BlackBox):
    """Lets a process that works on all runs answer."""

    spoken_name = "the outside agent"

    def __init__(self, process: Process) -> None:
        super().__init__(BlackBoxConfig())
        self._process = process
        self._answers: dict[int, asyncio.Future[str]] = {}

    async def answer(self, world: World, addresses: Addresses) -> str:
        """Return what the process answers."""
        assert self._process.stdin is not None
        number = len(self._answers)
        answer = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        async with serve(world) as served:
            run = {"base_url": served.base_url, "mcp_url": served.mcp_url, "number": number,
                   "prompt": world.prompt, "tools": bool(world.tools)}  # fmt: skip
            self._process.stdin.write(json.dumps(run).encode() + b"\n")
            return await answer

    async def read(self) -> None:
        """Take the answers in, until the process ends."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            found = json.loads(line)
            self._answers[found["number"]].set_result(found["answer"])


@contextlib.asynccontextmanager
async def outside_agent(way: str) -> AsyncIterator[OutsideAgent]:
    """Start the process, and the server that it will talk to; stop both."""
    command = [sys.executable, "-m", "benchmarks.served_agent", "--loop", way]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=PIPE, stdout=PIPE)
    agent, shared = OutsideAgent(process), SharedParts()
    SHARED.set(shared)
    server = shared.get(SharedServer, "the server")
    await server.get()
    reading = asyncio.create_task(agent.read())
    try:
        yield agent
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
        await reading
        await server.aclose()


def plans(work: Work, agent: Any, model: ModelSource) -> Iterator[RunPlan]:
    """Yield the runs of ``work``: couples where the model calls tools, and prompts else."""
    limits = UsageLimits(request_limit=None)
    if work.calls:
        dataset: Any = load(AgentDojoConfig(suite_name="workspace"), Path())
        attack = TemplateStringAttack(TemplateStringConfig())
        pairs = [(one.benign, one.malicious, one.id) for one in dataset.couples]
    else:
        task = {"id": "task", "prompt": "Say when you are done.",
                "evaluators": [{"type": "contains", "value": "Done"}]}  # fmt: skip
        dataset = inline.build(InlineConfig(name="one-call", tasks=[task]), Path())
        attack = None
        pairs = [(one, None, one.id) for one in dataset.benign_tasks]
    for number in range(work.runs):
        benign, malicious, name = pairs[number % len(pairs)]
        kind = attack and "direct"
        context = RunContext(dataset.name, dataset.suite, name, benign, malicious, kind, number)
        yield RunPlan(context, dataset, agent, attack, model, limits)


async def seconds(work: Work, agent: Any) -> tuple[float, float]:
    """Execute the runs of ``work``; return the time and the CPU of this process that they take."""
    places = asyncio.Semaphore(work.in_flight)

    async def one(plan: RunPlan) -> None:
        async with places:
            outcome = await execute(plan)
            assert outcome.status is Status.SCORED, outcome.error

    model = api_model("openai-chat:gpt-4o")
    all_plans = list(plans(work, agent, model))
    await one(all_plans[0])
    began, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*map(one, all_plans[1:]))
    took = time.perf_counter() - began, time.process_time() - used
    await model.aclose()
    return took


async def cpu(work: Work) -> dict[str, float]:
    """Return the milliseconds of CPU per run of each way."""
    _, plain = await seconds(work, PlainAgent(PlainAgentConfig()))
    found = {"plain": plain}
    for way in ("requests", "clients"):
        async with outside_agent(way) as agent:
            _, found[way] = await seconds(work, agent)
    return {way: used / (work.runs - 1) * 1e3 for way, used in found.items()}


async def throughput(work: Work) -> float:
    """Return the time that the runs take over the ideal one."""
    async with outside_agent("requests") as agent:
        took, _ = await seconds(work, agent)
    return took / work.ideal


def measured(work: Work, measure: Any) -> Any:
    """Return what ``measure`` returns with a server that answers as ``work`` says."""
    with serving(work.latency, work.calls) as server:
        os.environ["OPENAI_BASE_URL"], os.environ["OPENAI_API_KEY"] = server.url, "none"
        return asyncio.run(measure(work))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.black_box")
    parser.add_argument("--couples", type=int, default=ALL_COUPLES)
    parser.add_argument("--runs", type=int, default=2_000)
    options = parser.parse_args()
    found = measured(couples(options.couples), cpu)
    for way in ("requests", "clients"):
        ratio = found[way] / found["plain"]
        say(f"{options.couples} couples, agent by {way}: {found[way]:.1f} ms of CPU per run, "
            f"plain {found['plain']:.1f} ms: {ratio:.2f} x (at most {CPU_LIMIT} x)")  # fmt: skip
    ratio = measured(one_call(options.runs), throughput)
    say(f"{options.runs} runs of one request: {ratio:.2f} x ideal (at most {THROUGHPUT_LIMIT} x)")


if __name__ == "__main__":
    main()
