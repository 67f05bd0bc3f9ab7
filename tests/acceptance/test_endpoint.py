"""A real model behind a real endpoint that speaks OpenAI's API."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_siren.models.llamacpp import LlamaServer
from pytest_siren.models.weights import WeightsMissingError, locate
from tests.acceptance.conftest import Project

pytest.importorskip("xllamacpp", reason="needs the extra local")

EVALS = Path(__file__).parents[2] / "evals"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[tuple[str, str]]:
    """Address and key of llama.cpp's own server in this process."""
    try:
        weights = locate("smollm2-135m")
    except WeightsMissingError as missing:
        pytest.skip(str(missing))
    server = LlamaServer("smollm2-135m", weights)
    yield server.url, server.key
    del server


@pytest.mark.inside
@pytest.mark.parametrize(
    "provider", ["openai", pytest.param("openai-chat", marks=pytest.mark.nightly)]
)
def test_an_openai_compatible_endpoint_end_to_end(
    project: Project, endpoint: tuple[str, str], provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(EVALS / "eval_quickstart.yaml", project.path / "evals")
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint[0])
    monkeypatch.setenv("OPENAI_API_KEY", endpoint[1])
    result = project.run(
        "evals/eval_quickstart.yaml",
        "--attack=template_string",
        "--benign",
        "--task-ids=email_reply",
        f"--model={provider}:smollm2-135m",
    )
    assert result.ret in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    results = project.results()
    assert [found["status"] for found in results] == ["scored"] * 4
    assert all(found["usage"]["input_tokens"] > 50 for found in results)
    assert all(found["usage"]["output_tokens"] > 0 for found in results)
    assert all(found["output"].strip() for found in results)
    assert {found["model"] for found in results} == {f"{provider}:smollm2-135m"}
    result.stdout.fnmatch_lines([f"quickstart | plain | {provider}:smollm2-135m | template_string"])


@pytest.mark.inside
def test_a_wrong_key_ends_the_session_with_one_message(
    project: Project, endpoint: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint[0])
    monkeypatch.setenv("OPENAI_API_KEY", "wrong")
    result = project.run("evals", "--model=openai-chat:smollm2-135m")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert str(result.stdout).count("(401)") == 1
    result.stdout.fnmatch_lines(["*Interrupted: model 'openai-chat:smollm2-135m': *(401)*"])


@pytest.mark.inside
def test_a_missing_key_and_an_unknown_model_say_so(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for model, said in (
        ("openai:gpt-5", "OPENAI_API_KEY"),
        ("opnai:gpt-5", "Unknown model (did you mean"),
    ):
        result = project.run("evals", f"--model={model}")
        assert result.ret == pytest.ExitCode.INTERRUPTED
        result.stdout.fnmatch_lines([f"*Interrupted: model '{model}': *{said}*"])


@pytest.mark.inside
def test_the_local_model_says_how_to_fetch_its_weights(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIREN_CACHE_DIR", str(project.path / "empty"))
    result = project.run("evals", "--task-ids=summary", "--model=local:smollm2-135m")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*Interrupted: weights of local:*: siren models pull *"])


@pytest.mark.inside
def test_the_local_model_runs_in_every_process(distributed: Project) -> None:
    try:
        locate("smollm2-135m")
    except WeightsMissingError as missing:
        pytest.skip(str(missing))
    distributed.run(
        "evals",
        "--attack=template_string",
        "--model=local:smollm2-135m",
        "--task-ids=summary",
        "--set=+agent.config.model_settings.max_tokens=16",
    )
    results = distributed.results()
    assert [found["status"] for found in results] == ["scored"] * 2
    assert all(found["usage"]["output_tokens"] > 0 for found in results)
