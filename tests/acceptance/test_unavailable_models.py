"""A model that is unavailable ends its own runs, and no other model's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.acceptance.conftest import Project
from tests.acceptance.odd_server import Reply, good, odd_server

NO_KEY = "model 'openai:gpt-5': "


@pytest.fixture
def without_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.inside
@pytest.mark.usefixtures("without_key")
@pytest.mark.parametrize("models", ["openai:gpt-5,scripted:echo", "scripted:echo,openai:gpt-5"])
@pytest.mark.parametrize("concurrency", ["1", "8"])
def test_a_model_without_a_key_stops_no_other_model(
    models: str, concurrency: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = project.run(f"--model={models}", "--runs=3", f"--concurrency={concurrency}")
    result.assert_outcomes(passed=6)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    text = str(result.stdout)
    assert text.count(NO_KEY) == 1
    assert "Interrupted: " + NO_KEY in text
    assert "pending: 6 of 12 runs" in text
    # With a key, the rest is done.
    with odd_server(lambda model, number, request: (200, {}, good())) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "key")
        again = project.run("--lf")
    assert "recorded: 6 of 12 runs" in str(again.stdout)


@pytest.mark.inside
def test_each_unavailable_model_is_named_once(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(model: str, number: int, request: dict[str, Any]) -> Reply:
        if model == "poor":
            return 429, {}, {"error": {"code": "insufficient_quota", "message": "no money"}}
        if model == "strange":
            return 404, {}, {"error": {"code": "model_not_found", "message": "no such model"}}
        return 200, {}, good("noon, report")

    with odd_server(script) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "key")
        models = ",".join(f"openai-chat:{name}" for name in ("poor", "fine", "strange"))
        result = project.run(f"--model={models}", "--runs=5", "--concurrency=2")
    result.assert_outcomes(passed=10)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert server.seen["fine"] == 10
    assert server.seen["poor"] <= 2
    assert server.seen["strange"] <= 2
    text = str(result.stdout)
    assert text.count("no money") == text.count("no such model") == 1


@pytest.mark.inside
@pytest.mark.usefixtures("without_key")
def test_ordinary_tests_go_on(project: Project) -> None:
    project.write("test_sum.py", "def test_sum():\n    assert 1 + 1 == 2\n")
    for order in (["evals", "test_sum.py"], ["test_sum.py", "evals"]):
        result = project.run(*order, "--model=openai:gpt-5")
        result.assert_outcomes(passed=1)
        assert result.ret == pytest.ExitCode.INTERRUPTED


@pytest.mark.parametrize("dist", ["-n2"], indirect=True)
@pytest.mark.usefixtures("without_key")
def test_so_it_is_on_several_processes(distributed: Project) -> None:
    arguments = ("--model=openai:gpt-5,scripted:echo", "--runs=10", "--concurrency=1")
    result = distributed.run(*arguments)
    result.assert_outcomes(passed=20)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    text = str(result.stdout)
    assert text.count(NO_KEY) == 1
    assert "pending: 20 of 40 runs" in text


@pytest.mark.usefixtures("without_key")
@pytest.mark.parametrize(
    "dist", ["no-xdist", pytest.param("-n2", marks=pytest.mark.nightly)], indirect=True
)
def test_it_is_named_too_when_something_else_stops_the_session(distributed: Project) -> None:
    # The first run of the other model fails.
    result = distributed.run("--model=openai:gpt-5,scripted:deaf", "-x", "--concurrency=1")
    assert result.ret != pytest.ExitCode.OK
    text = str(result.stdout)
    assert text.count(NO_KEY) == 1
    assert "pending: " in text
