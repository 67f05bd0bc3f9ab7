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


@pytest.mark.inside
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


@pytest.mark.inside
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


@pytest.mark.inside
@pytest.mark.usefixtures("without_key")
def test_a_session_that_cannot_begin_leaves_no_job(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = project.run("--model=openai-chat:gpt-5", "--runs=3")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "pending: 6 of 6 runs" in str(result.stdout)
    assert [path.name for path in (project.path / "jobs").iterdir()] == []
    with odd_server(lambda model, number, request: (200, {}, good("noon, report"))) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "key")
        again = project.run("--lf")
        again.assert_outcomes(passed=6)
        assert server.seen.total() == 6
    (job,) = project.jobs()
    third = project.run("--lf")
    assert "recorded: 6 of 6 runs" in str(third.stdout)
    assert project.jobs() == [job]


@pytest.mark.inside
@pytest.mark.usefixtures("without_key")
def test_no_job_of_an_unavailable_model_is_left(distributed: Project) -> None:
    result = distributed.run("--model=openai:gpt-5,scripted:echo")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    (job,) = distributed.jobs()
    assert "scripted" in job.name
    (sweep,) = (distributed.path / "jobs" / ".sweeps").iterdir()
    assert "gpt-5" not in sweep.read_text()


KEY, URL = "OPENAI_API_KEY", "OPENAI_BASE_URL"
SET_UP = {
    "line break": ({KEY: "sk-abcdefgh12345678\n"}, f"{KEY} holds a line break"),
    "curly quotes": ({KEY: "\u201csk-abc\u201d"}, f"{KEY} holds the character U+201C"),
    "quotes": ({KEY: "'sk-abc'"}, f"{KEY} is in quotes"),
    "empty": ({KEY: ""}, f"{KEY} is empty"),
    "no scheme": ({URL: "127.0.0.1:1/v1"}, f"{URL} ('127.0.0.1:1/v1') does not begin with"),
    "bad port": ({URL: "http://127.0.0.1:99999"}, f"{URL} is not an address"),
    "credentials": ({URL: "http://b:pw@127.0.0.1/v1"}, f"remove them from {URL}"),
    "refused": ({URL: "http://127.0.0.1:9/v1"}, f"check {URL}"),
    "unknown host": ({URL: "http://no-host.invalid"}, f"check {URL}"),
    "proxy": (
        {URL: "http://x.invalid/", "http_proxy": "foo:bar", "no_proxy": ""},
        "HTTP_PROXY is not an address",
    ),
}


@pytest.mark.inside
@pytest.mark.parametrize("fault", SET_UP)
def test_a_fault_of_the_set_up_is_one_message(
    fault: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pytest_siren.models.ratelimit.retrying_model.after_transient", lambda *_: 0.0
    )
    values, message = SET_UP[fault]
    for name, value in {URL: "http://127.0.0.1:9/v1", KEY: "k"}.items():
        monkeypatch.setenv(name, value)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    result = project.run("--model=openai-chat:m,scripted:echo", "--runs=20")
    result.assert_outcomes(passed=40)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    text = str(result.stdout) + str(result.stderr)
    assert text.count("model 'openai-chat:m': ") == text.count(message) == 1
    assert "INTERNALERROR" not in text
    assert "ERROR" not in text


@pytest.mark.inside
@pytest.mark.usefixtures("without_key")
def test_a_sweep_may_have_many_models(project: Project) -> None:
    models = ",".join(f"openai:m{number}" for number in range(70))
    result = project.run(f"--model={models}", "--task-ids=summary")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    text = str(result.stdout)
    assert "INTERNALERROR" not in text
    assert "pending: 70 of 70 runs" in text


@pytest.mark.inside
def test_more_models_than_there_is_room_for_are_refused_at_collection(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_siren.session.collection.eval_file.MOST_KEYS", 2)
    result = project.run("--model=openai:a,openai:b,openai:c")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    line = "evals/eval_mail.yaml: more than 2 models in one session; choose fewer with --model"
    assert str(result.stdout).count(line) == 1
    assert not (project.path / "jobs").exists()


@pytest.mark.inside
@pytest.mark.usefixtures("without_key")
def test_an_attackers_model_without_a_key_stops_the_runs_of_that_attack(project: Project) -> None:
    with open(project.path / "conftest.py", "a", encoding="utf-8") as conftest:
        conftest.write(
            """

from pytest_siren import StaticAttack


class Writer(StaticAttack):
    models = ["openai:gpt-5"]

    def contents(self, target):
        return {}

    async def run(self, stage, target):
        await stage.open_model("openai:gpt-5")


class WriterConfig(BaseModel):
    pass


others = pytest_siren_components_register


def pytest_siren_components_register(registry):
    others(registry)
    registry.add(Kind.ATTACK, "writer", Component(WriterConfig, lambda config, base: Writer()))
"""
        )
    result = project.run("evals", "--attack=writer", "--benign", "--runs=3", "--concurrency=1")
    text = str(result.stdout)
    assert text.count(NO_KEY) == 1
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert {one["attack"] for one in project.results()} == {None}
    assert all(one["status"] == "scored" for one in project.results())
