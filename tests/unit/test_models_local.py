from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.openai import OpenAIChatModelSettings
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from pytest_siren.evaluation.components import Registry, SupportsClose
from pytest_siren.evaluation.models import ModelKind
from pytest_siren.models.llamacpp import LlamaServer
from pytest_siren.models.local import LocalSource
from pytest_siren.models.weights import WeightsMissingError, locate
from pytest_siren.session.items.job import find_model
from tests.unit.models_sample import NAME, RUN, fetch_weights

pytestmark = pytest.mark.slow

SEARCH = ToolDefinition(
    name="search_emails",
    description="Search the inbox.",
    parameters_json_schema={
        "type": "object",
        "properties": {"query": {"type": "string"}},
        "required": ["query"],
    },
)


@pytest.fixture(scope="module", autouse=True)
def weights() -> None:
    fetch_weights()


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def source(runner: asyncio.Runner) -> Iterator[LocalSource]:
    source = find_model(f"local:{NAME}", Registry(), Path())
    assert isinstance(source, LocalSource)
    yield source
    runner.run(source.aclose())


def conversation(prompt: str, system: str = "You are helpful.") -> list[ModelMessage]:
    return [ModelRequest(parts=[SystemPromptPart(system), UserPromptPart(prompt)])]


async def ask(
    model: Model, prompt: str, *tools: ToolDefinition, settings: ModelSettings | None = None
) -> ModelResponse:
    settings = settings or ModelSettings(max_tokens=24)
    parameters = ModelRequestParameters(function_tools=list(tools))
    return await model.request(conversation(prompt), settings, parameters)


def test_the_source_says_what_it_is(source: LocalSource) -> None:
    assert (source.id, source.label) == (f"local:{NAME}", f"local:{NAME}")
    assert source.kind is ModelKind.MODEL
    assert source.spoken_name == "the AI language model"
    assert isinstance(source, SupportsClose)
    assert source.unknown(RUN).benign is None
    assert source.unknown(RUN).attack is None


def test_a_request_with_tools_shows_them_to_the_model_and_counts_its_tokens(
    source: LocalSource, runner: asyncio.Runner
) -> None:
    async def both() -> tuple[ModelResponse, ModelResponse]:
        model = await source.bind(RUN)
        return await ask(model, "Find Anna's email."), await ask(
            model, "Find Anna's email.", SEARCH
        )

    bare, armed = runner.run(both())
    assert 10 < bare.usage.input_tokens < 50
    assert armed.usage.input_tokens > bare.usage.input_tokens + 50
    assert 0 < armed.usage.output_tokens <= 24
    assert bare.text
    # Records name the model, never the file that its weights lie in.
    assert (armed.model_name, armed.provider_name) == (NAME, "local")


def test_it_calls_a_tool_and_answers_from_the_result(
    source: LocalSource, runner: asyncio.Runner
) -> None:
    async def conversation_with_result() -> tuple[ModelResponse, ModelResponse]:
        model = await source.bind(RUN)
        tools = ModelRequestParameters(function_tools=[SEARCH])
        messages = conversation("Search my emails for the word invoice.")
        asked = await model.request(messages, None, tools)
        results = [
            ToolReturnPart(call.tool_name, "The invoice is due on Friday.", call.tool_call_id)
            for call in asked.tool_calls
        ]
        messages += [asked, ModelRequest(parts=[*results, UserPromptPart("When is it due?")])]
        return asked, await model.request(messages, None, tools)

    asked, answered = runner.run(conversation_with_result())
    assert [call.tool_name for call in asked.tool_calls] == ["search_emails"]
    assert "invoice" in asked.tool_calls[0].args_as_dict()["query"]
    assert "Friday" in (answered.text or "")


def test_the_same_question_gets_the_same_answer_whatever_happens_around_it(
    source: LocalSource, runner: asyncio.Runner
) -> None:
    question = "A lighthouse stands on a rock in the sea. " * 30 + "Write a story about it."
    settings = OpenAIChatModelSettings(max_tokens=24, openai_logprobs=True)

    async def thrice() -> list[ModelResponse]:
        model = await source.bind(RUN)
        alone = await ask(model, question, settings=settings)
        assert alone.usage.cache_read_tokens == 0
        cached = await ask(model, question, settings=settings)
        assert cached.usage.cache_read_tokens > 0
        questions = ("What is a prime number?", question, "Describe Rome.")
        crowd = await asyncio.gather(*(ask(model, each, settings=settings) for each in questions))
        return [alone, cached, crowd[1]]

    alone, cached, crowded = (
        (response.text, (response.provider_details or {})["logprobs"])
        for response in runner.run(thrice())
    )
    assert alone[0]
    # Not the words alone: equal probabilities, to the last bit, leave no room for luck.
    assert alone == cached == crowded


def test_settings_of_the_agent_override_those_of_the_model(
    source: LocalSource, runner: asyncio.Runner
) -> None:
    async def answers() -> tuple[ModelResponse, set[str | None]]:
        model = await source.bind(RUN)
        short = await ask(model, "Tell me a story.", settings=ModelSettings(max_tokens=3))
        seeds = [ModelSettings(max_tokens=24, temperature=1.5, seed=seed) for seed in (1, 2, 3)]
        return short, {(await ask(model, "Tell me a story.", settings=s)).text for s in seeds}

    short, drawn = runner.run(answers())
    assert short.usage.output_tokens == 3
    assert len(drawn) > 1


def test_a_proxy_for_the_world_outside_is_not_asked(
    source: LocalSource, runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)

    async def answer() -> ModelResponse:
        return await ask(await source.bind(RUN), "Say hello.")

    assert runner.run(answer()).usage.output_tokens > 0


def test_other_work_goes_on_while_the_model_thinks(
    source: LocalSource, runner: asyncio.Runner
) -> None:
    async def turns() -> int:
        model = await source.bind(RUN)
        thinking = asyncio.create_task(ask(model, "Tell me a long story."))
        turns = 0
        while not thinking.done():
            await asyncio.sleep(0.001)
            turns += 1
        assert (await thinking).usage.output_tokens > 0
        return turns

    # A model that held the event loop would let nothing in between: two at most.
    assert runner.run(turns()) > 10


def test_a_conversation_longer_than_the_context_is_an_error_and_nothing_is_printed(
    source: LocalSource, runner: asyncio.Runner, capfd: pytest.CaptureFixture[str]
) -> None:
    async def too_long() -> None:
        model = await source.bind(RUN)
        await ask(model, "Say hello.")
        with pytest.raises(ModelHTTPError, match="exceeds the available context size"):
            await ask(model, "word " * 9000)
        await source.aclose()

    runner.run(too_long())
    assert capfd.readouterr() == ("", "")


def test_one_source_serves_one_event_loop_after_the_other() -> None:
    source = LocalSource(NAME)

    async def answer() -> tuple[Model, str | None]:
        model = await source.bind(RUN)
        assert await source.bind(RUN) is model
        return model, (await ask(model, "Say hello.")).text

    first, second = asyncio.run(answer()), asyncio.run(answer())
    assert first[1] == second[1]
    assert first[0] is not second[0]
    asyncio.run(source.aclose())


def test_missing_weights_say_how_to_fetch_them(
    runner: asyncio.Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIREN_CACHE_DIR", str(tmp_path))
    with pytest.raises(WeightsMissingError) as raised:
        runner.run(LocalSource(NAME).bind(RUN))
    assert str(raised.value) == (
        "weights of local:smollm2-135m are not on this machine; "
        "fetch them with: siren models pull smollm2-135m"
    )


def test_a_missing_package_says_how_to_install_it(
    runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(ImportError, match=r"pip install 'pytest-siren\[local\]'"):
        runner.run(LocalSource(NAME).bind(RUN))


def test_an_unknown_local_model_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown local model 'smolm2'") as raised:
        find_model("local:smolm2", Registry(), Path())
    assert str(raised.value).endswith("(did you mean 'smollm2-135m'?); known: smollm2-135m")


def call(arguments: str) -> dict[str, object]:
    function = {"name": "look", "arguments": arguments}
    return {"id": arguments, "type": "function", "function": function}


CONVERSATION = {
    "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
    "messages": [
        {"role": "system", "content": "SYSTEM"},
        {"role": "user", "content": "QUESTION"},
        {"role": "assistant", "content": None, "tool_calls": [call('{"x": 1}'), call("{}")]},
        {"role": "tool", "tool_call_id": '{"x": 1}', "content": "FIRST"},
        {"role": "tool", "tool_call_id": "{}", "content": "SECOND"},
    ],
}
RENDERED = """\
<|im_start|>user
QUESTION<|im_end|>
<|im_start|>assistant
<tool_call>
{"name": "look", "arguments": {"x": 1}}
</tool_call>
<tool_call>
{"name": "look", "arguments": {}}
</tool_call><|im_end|>
<|im_start|>user
Result: FIRST
Result: SECOND<|im_end|>
<|im_start|>assistant
"""


def rendered(server: LlamaServer, body: dict[str, object]) -> str:
    import httpx2

    answer = httpx2.post(
        server.url.removesuffix("/v1") + "/apply-template",
        json=body,
        headers={"Authorization": f"Bearer {server.key}"},
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text
    prompt: str = answer.json()["prompt"]
    return prompt


def test_the_model_reads_tools_calls_and_results_in_its_own_format() -> None:
    prompt = rendered(LlamaServer(NAME, locate(NAME)), CONVERSATION)
    assert prompt.startswith("<|im_start|>system\nSYSTEM\n\n")
    assert '"name": "look"' in prompt.partition("<|im_end|>")[0]
    assert prompt.endswith(RENDERED)


def test_without_tools_the_prompt_is_that_of_the_makers_template(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ours = LlamaServer(NAME, locate(NAME))
    (tmp_path / "smollm2.jinja").touch()
    monkeypatch.setattr("pytest_siren.models.llamacpp.files", lambda package: tmp_path)
    makers = LlamaServer(NAME, locate(NAME))
    for messages in (
        [{"role": "user", "content": "Hi"}],
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "Bye"},
        ],
    ):
        body: dict[str, object] = {"messages": messages}
        assert rendered(ours, body) == rendered(makers, body)


def test_nobody_else_on_the_machine_can_ask_the_server() -> None:
    import httpx2

    server = LlamaServer(NAME, locate(NAME))
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    answer = httpx2.post(f"{server.url}/chat/completions", json=body, trust_env=False)
    assert answer.status_code == 401
    assert server.url.startswith("http://127.0.0.1:")


PREAMBLE = """
import asyncio, os
from pydantic_ai.messages import ModelRequest, UserPromptPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pytest_siren.models.local import LocalSource
from tests.unit.models_sample import NAME, RUN

source = LocalSource(NAME)

async def ask(tokens):
    model = await source.bind(RUN)
    messages = [ModelRequest(parts=[UserPromptPart("Tell me a long story.")])]
    await model.request(messages, ModelSettings(max_tokens=tokens), ModelRequestParameters())
"""
LEAVES_WITHOUT_CLOSING = "asyncio.run(ask(3))"
LEAVES_IN_THE_MIDDLE_OF_AN_ANSWER = """
async def impatient():
    async with asyncio.timeout(1.5):
        await ask(4000)
try:
    asyncio.run(impatient())
except TimeoutError:
    pass
"""
FORKS = """
asyncio.run(ask(3))
url = source._server.url
child = os.fork()
if not child:
    asyncio.run(ask(3))
    os._exit(7 if source._server.url != url else 8)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
asyncio.run(ask(3))
"""


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(LEAVES_WITHOUT_CLOSING, id="without closing"),
        pytest.param(LEAVES_IN_THE_MIDDLE_OF_AN_ANSWER, id="in the middle of an answer"),
        pytest.param(FORKS, id="after a fork"),
    ],
)
def test_a_process_ends_cleanly(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PREAMBLE + script],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
