from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic import BaseModel, Field
from pydantic_ai.messages import ModelRequest, ModelResponse, UserPromptPart
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.test import TestModel as PydanticTestModel
from pydantic_ai.settings import ModelSettings

from pytest_siren.evaluation.components import Component, Kind, Registry, SupportsClose
from pytest_siren.evaluation.models import ModelKind
from pytest_siren.models.api import ApiModelSource, ModelNameError, api_model
from pytest_siren.models.control import ControlSource
from pytest_siren.models.llamacpp import LlamaServer
from pytest_siren.models.names import spoken_name
from pytest_siren.models.weights import locate
from pytest_siren.session.items.job import find_model
from tests.unit.models_sample import NAME, RUN, fetch_weights


@pytest.fixture(scope="module")
def server() -> LlamaServer:
    """A real model behind a real OpenAI-compatible endpoint, in this process."""
    fetch_weights()
    return LlamaServer(NAME, locate(NAME))


@pytest.fixture
def endpoint(server: LlamaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", server.key)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


async def ask(model: Model) -> ModelResponse:
    messages = [ModelRequest(parts=[UserPromptPart("Say hello.")])]
    return await model.request(messages, ModelSettings(max_tokens=8), ModelRequestParameters())


@pytest.mark.slow
@pytest.mark.usefixtures("endpoint")
@pytest.mark.parametrize("provider", ["openai", "openai-chat"])
def test_a_model_behind_an_endpoint_answers_and_counts_its_tokens(provider: str) -> None:
    source = api_model(f"{provider}:smollm2")

    async def answers() -> list[ModelResponse]:
        model = await source.bind(RUN)
        both = [await ask(model), *await asyncio.gather(*(ask(model) for _ in range(3)))]
        await source.aclose()
        return both

    responses = asyncio.run(answers())
    assert all(response.text for response in responses)
    assert {response.usage.input_tokens for response in responses} == {33}
    assert all(0 < response.usage.output_tokens <= 8 for response in responses)


@pytest.mark.slow
@pytest.mark.usefixtures("endpoint")
def test_one_model_object_serves_an_event_loop_and_a_new_loop_gets_its_own() -> None:
    source = api_model("openai-chat:smollm2")

    async def bound() -> Model:
        models = {id(model): model for model in [await source.bind(RUN) for _ in range(3)]}
        (model,) = models.values()
        assert (await ask(model)).text
        await source.aclose()
        return model

    assert asyncio.run(bound()) is not asyncio.run(bound())


def test_the_source_is_named_as_the_user_wrote_it() -> None:
    source = api_model("openai:gpt-4o")
    assert (source.id, source.label) == ("openai:gpt-4o", "openai:gpt-4o")
    assert source.kind is ModelKind.MODEL
    assert source.spoken_name == "GPT-4"
    assert isinstance(source, SupportsClose)


def test_pydantic_ais_test_model_needs_nothing() -> None:
    assert isinstance(asyncio.run(api_model("test").bind(RUN)), PydanticTestModel)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("opnai:gpt-5", "openai:gpt-5"),
        ("anthropc:claude-sonnet-4-5", "anthropic:claude-sonnet-4-5"),
        ("locl:smollm2-135m", "local:smollm2-135m"),
        ("tset", "test"),
    ],
)
def test_an_unknown_model_names_the_nearest(name: str, nearest: str) -> None:
    source = find_model(name, Registry(), Path())
    with pytest.raises(ModelNameError) as raised:
        asyncio.run(source.bind(RUN))
    assert str(raised.value) == (
        f"model {name!r}: Unknown model (did you mean {nearest!r}?); a model is PROVIDER:NAME, "
        "such as openai:gpt-5, or control:..., or local:..., or replay:..."
    )


@pytest.mark.parametrize("name", ["xyzzy:plugh", "openai:", "gpt"])
def test_a_name_that_resembles_nothing_is_told_what_a_model_is(name: str) -> None:
    with pytest.raises(ModelNameError) as raised:
        asyncio.run(api_model(name).bind(RUN))
    assert str(raised.value).startswith(f"model {name!r}: Unknown model")
    assert "a model is PROVIDER:NAME, such as openai:gpt-5" in str(raised.value)


class AnyConfig(BaseModel):
    argument: str = Field(max_length=5)


def registered(name: str) -> Registry:
    registry = Registry()
    component = Component(AnyConfig, lambda config, base: (config.argument, base))
    registry.add(Kind.MODEL, name, component)
    return registry


def test_what_stands_before_the_first_colon_decides() -> None:
    assert isinstance(find_model("control:hijacked", Registry(), Path()), ControlSource)
    assert isinstance(find_model("openai:ft:gpt-4o:me", Registry(), Path()), ApiModelSource)
    here = Path("here")
    assert find_model("mine:a:b", registered("mine"), here) == ("a:b", here)
    # A registered name hides a provider of pydantic-ai.
    assert find_model("openai:x", registered("openai"), here) == ("x", here)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "model '' has no name; give one such as openai:gpt-5"),
        (" ", "model ' ' has no name; give one such as openai:gpt-5"),
        (":x", "model ':x' has no name; give one such as openai:gpt-5"),
        ("mine", "model 'mine' lacks a name after the colon: mine:NAME"),
        ("mine: ", "model 'mine: ' lacks a name after the colon: mine:NAME"),
        ("mine:too-long", "model 'mine:too-long': String should have at most 5 characters"),
    ],
)
def test_a_name_that_cannot_be_read_says_what_is_wrong(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"^model ") as raised:
        find_model(name, registered("mine"), Path())
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("model", "spoken"),
    [
        ("openai:gpt-4o", "GPT-4"),
        ("openai:GPT-3.5-turbo", "GPT-3.5"),
        ("anthropic:claude-sonnet-4-5", "Claude"),
        ("cohere:command-r-plus-08", "Command R+"),
        ("cohere:command-r-08", "Command R"),
        ("mistral:open-mixtral-8x7b", "Mixtral"),
        ("google:gemini-3-pro", "AI model developed by Google"),
        ("groq:llama-3.3-70b", "AI assistant"),
        ("local:smollm2-135m", "the AI language model"),
        ("xyzzy", "the AI language model"),
    ],
)
def test_how_an_attacker_would_address_a_model(model: str, spoken: str) -> None:
    assert spoken_name(model) == spoken


def test_models_of_agentdojos_benchmark_are_addressed_as_there() -> None:
    names = pytest.importorskip("agentdojo.models").MODEL_NAMES
    own = {"local", "vllm_parsed"}
    assert {name: spoken_name(name) for name in names if name not in own} == {
        name: spoken for name, spoken in names.items() if name not in own
    }


@pytest.mark.parametrize(
    ("name", "variable", "package"),
    [
        ("openai-chat:m", "OPENAI_BASE_URL", "openai"),
        ("openai:m", "OPENAI_BASE_URL", "openai"),
        ("anthropic:m", "ANTHROPIC_BASE_URL", "anthropic"),
        ("google:m", "GOOGLE_GEMINI_BASE_URL", "google.genai"),
        ("ollama:m", "OLLAMA_BASE_URL", "openai"),
    ],
)
def test_an_address_with_a_password_is_refused_and_not_shown(
    name: str, variable: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(package)
    monkeypatch.setenv(variable, "http://bob:hunter2@127.0.0.1:1/v1")
    for provider in ("OPENAI", "ANTHROPIC", "GOOGLE"):
        monkeypatch.setenv(f"{provider}_API_KEY", "key")
    with pytest.raises(ModelNameError) as raised:
        asyncio.run(ApiModelSource(name).bind(RUN))
    assert str(raised.value) == (
        f"model {name!r}: its base URL, at 127.0.0.1, holds a user name or a password, "
        f"which would be sent in place of the API key; remove them from {variable}"
    )


@pytest.mark.parametrize(
    ("name", "variable", "package"),
    [
        ("openai:m", "OPENAI_API_KEY", "openai"),
        ("anthropic:m", "ANTHROPIC_API_KEY", "anthropic"),
        ("google:m", "GOOGLE_API_KEY", "google.genai"),
        ("deepseek:m", "DEEPSEEK_API_KEY", "openai"),
    ],
)
def test_a_missing_key_is_named_in_words_of_this_plugin(
    name: str, variable: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(package)
    for unset in (variable, "OPENAI_BASE_URL", "GEMINI_API_KEY"):
        monkeypatch.delenv(unset, raising=False)
    with pytest.raises(ModelNameError) as raised:
        asyncio.run(ApiModelSource(name).bind(RUN))
    assert str(raised.value) == f"model {name!r}: its API key is missing; set {variable}"
