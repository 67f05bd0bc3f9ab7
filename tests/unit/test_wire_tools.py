"""Tools that come again are adapted to a provider once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.models.test import TestModel as PydanticTestModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.tools import ToolDefinition

from pytest_siren.models.wire.exchange import RememberedTools, remember_tools

SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Find",
    "properties": {"text": {"type": "string", "title": "Text", "default": "x"}},
}
TOOLS = [ToolDefinition(name=f"find_{n}", parameters_json_schema=SCHEMA) for n in range(3)]


def model() -> Model:
    return OpenAIChatModel("gpt-4o", provider=OpenAIProvider(api_key="key"))


def test_what_is_remembered_is_what_the_model_would_say() -> None:
    plain, remembering = model(), model()
    remember_tools(remembering)
    assert isinstance(remembering.customize_request_parameters, RememberedTools)
    for tools in (TOOLS, TOOLS[:2], TOOLS[::-1], TOOLS, []):
        parameters = ModelRequestParameters(function_tools=list(tools))
        expected = plain.customize_request_parameters(parameters)
        for _ in range(2):
            assert remembering.customize_request_parameters(parameters) == expected


def test_the_same_tools_are_adapted_once_and_others_anew() -> None:
    adapted: list[int] = []

    def customize(parameters: ModelRequestParameters) -> ModelRequestParameters:
        adapted.append(len(parameters.function_tools))
        return parameters

    remembered = RememberedTools(customize)
    for _ in range(3):
        remembered(ModelRequestParameters(function_tools=list(TOOLS)))
    assert adapted == [3]
    remembered(ModelRequestParameters(function_tools=[replace(TOOLS[0]), *TOOLS[1:]]))
    assert adapted == [3, 3]
    with_output = ModelRequestParameters(function_tools=list(TOOLS), output_tools=TOOLS[:1])
    for _ in range(2):
        remembered(with_output)
    assert adapted == [3, 3, 3, 3]


def test_a_model_with_ways_of_its_own_is_left_alone() -> None:
    class Own(PydanticTestModel):
        def customize_request_parameters(
            self, model_request_parameters: ModelRequestParameters
        ) -> ModelRequestParameters:
            return model_request_parameters

    own = Own()
    remember_tools(own)
    assert not isinstance(own.customize_request_parameters, RememberedTools)
