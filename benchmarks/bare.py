"""What a model request costs without a harness: pydantic-ai's ``model.request`` in plain asyncio.

``python -m benchmarks.bare 560 64`` holds as many conversations as AgentDojo's workspace suite has
couples, of three requests each with the suite's 24 tools, and prints the seconds of CPU per
request as JSON. Prompts, tools and tool results are made beforehand; nothing is executed, judged
or recorded.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from agentdojo.agent_pipeline.agent_pipeline import load_system_message
from agentdojo.agent_pipeline.tool_execution import tool_result_to_str
from agentdojo.functions_runtime import FunctionsRuntime
from agentdojo.task_suite.load_suites import get_suite
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters, infer_model
from pydantic_ai.tools import ToolDefinition

from benchmarks.peers.siren import MODEL
from benchmarks.work import couples

_WARM_UP = 64


class Conversations:
    """The prompts, tools and tool results of the workspace suite."""

    def __init__(self) -> None:
        suite = get_suite("v1.2.2", "workspace")
        environment = suite.load_and_inject_default_environment({})
        runtime = FunctionsRuntime(suite.tools)
        self.results = {
            name: tool_result_to_str(runtime.run_function(environment, name, arguments)[0])
            for name, arguments in couples(1).calls
        }
        self.system_prompt = load_system_message(None)
        self.prompts = [task.PROMPT for task in suite.user_tasks.values()]
        self.tools = [
            ToolDefinition(
                name=tool.name,
                description=tool.description,
                parameters_json_schema=tool.parameters.model_json_schema(),
            )
            for tool in suite.tools
        ]

    async def hold(self, model: Model, prompt: str) -> int:
        """Talk until the model calls no more tools; return the number of requests."""
        parameters = ModelRequestParameters(function_tools=self.tools)
        first = [SystemPromptPart(self.system_prompt), UserPromptPart(prompt)]
        messages: list[ModelMessage] = [ModelRequest(first)]
        for number in itertools.count(1):
            response = await model.request(messages, None, parameters)
            results = self.answer(response)
            if not results:
                return number
            messages += [response, ModelRequest(results)]
        raise AssertionError

    def answer(self, response: ModelResponse) -> list[Any]:
        return [
            ToolReturnPart(call.tool_name, self.results[call.tool_name], call.tool_call_id)
            for call in response.tool_calls
        ]


async def hold_all(number: int, in_flight: int) -> dict[str, float]:
    """Hold ``number`` conversations and return what they took."""
    conversations, model = Conversations(), infer_model(MODEL)
    prompts = itertools.cycle(conversations.prompts)

    async def some(todo: Iterator[int]) -> int:
        return sum([await conversations.hold(model, next(prompts)) for _ in todo])

    async def many(total: int) -> int:
        todo = iter(range(total))
        return sum(await asyncio.gather(*[some(todo) for _ in range(in_flight)]))

    await many(_WARM_UP)
    cpu, wall = time.process_time(), time.perf_counter()
    requests = await many(number)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"requests": requests, "cpu": cpu, "wall": wall, "cpu_per_request": cpu / requests}


def main() -> None:
    """Print what the conversations took."""
    number, in_flight = map(int, sys.argv[1:])
    print(json.dumps(asyncio.run(hold_all(number, in_flight))))


if __name__ == "__main__":
    main()
