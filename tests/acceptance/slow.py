"""Models that take their time, for sessions in which many runs are in flight."""

from __future__ import annotations

SLOW_MODELS = '''
import asyncio
import os
import time

from pydantic import BaseModel
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.models.function import FunctionModel

from pytest_siren import Component, Kind, ModelKind, Unknown

STARTED = time.monotonic()


class Config(BaseModel):
    argument: str


class Source:
    """Answers with the prompt after as many seconds as its last word says."""

    kind = ModelKind.MODEL
    spoken_name = "Slow"

    def __init__(self, argument):
        self.id = self.label = f"slow:{argument}"
        self.argument = argument

    async def bind(self, run):
        async def answer(messages, info):
            text = messages[0].parts[-1].content
            with open("asked.txt", "a") as file:
                file.write(f"{run.task_id}\\n")
            if self.argument == "blocking":
                await asyncio.to_thread(time.sleep, float(text.split()[-1]))
            elif self.argument == "gated" and text.endswith("wait 1"):
                while not os.path.exists("go"):
                    await asyncio.sleep(0.05)
            elif self.argument == "deadly" and "POISON" in text:
                await asyncio.sleep(0.2)
                os._exit(9)
            else:
                await asyncio.sleep(float(text.split()[-1]))
            print("answering", run.task_id)
            return ModelResponse([TextPart(text)])

        return FunctionModel(answer)

    def unknown(self, run):
        return Unknown()


def pytest_siren_components_register(registry):
    component = Component(Config, lambda config, base: Source(config.argument))
    registry.add(Kind.MODEL, "slow", component)
'''


def eval_file(seconds: dict[str, float], *, model: str = "slow:x", fails: str = "bad") -> str:
    """Return an eval file with a task for each id, whose answer takes so many seconds.

    Tasks whose id begins with ``fails`` are scored 0.
    """
    lines = ["dataset:", "  type: inline", "  config:", "    name: slow", "    tasks:"]
    for task, duration in seconds.items():
        wanted = "never said" if task.startswith(fails) else "wait"
        poison = "POISON " if task.startswith("poison") else ""
        lines += [
            f"      - id: {task}",
            f"        prompt: {poison}wait {duration}",
            f"        evaluators: {{said: {{type: contains, value: {wanted}}}}}",
        ]
    return "\n".join([*lines, f"agent: {{config: {{model: '{model}'}}}}", ""])
