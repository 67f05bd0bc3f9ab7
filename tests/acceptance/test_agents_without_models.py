"""An agent that is declared to need no model has jobs, records, tables and reports without one."""

from __future__ import annotations

import pytest
import yaml

from pytest_siren.cli.main import main
from pytest_siren.jobs.records.naming import CONFIG_FILE
from tests.acceptance.conftest import Project

RULES = """
import os

from pydantic import BaseModel
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.usage import RequestUsage

from pytest_siren import Component, End, EndReason, Kind


class Config(BaseModel, extra="forbid"):
    says: str = "It is at noon."
    tokens: int = 0
    cost: float | None = None
    asks: bool = False


class WithModel(Config):
    model: str = "small"


class Rules:
    def __init__(self, config):
        self._config = config

    async def step(self, state, stage):
        config, prompt = self._config, stage.environment.prompt(state.env_state, stage.task)
        if config.asks:
            await stage.ask([ModelRequest([UserPromptPart("?")])], None, ModelRequestParameters())
        text = getattr(config, "model", config.says) + (prompt.text if config.says == "all" else "")
        usage = RequestUsage(input_tokens=config.tokens)
        usage.cost = config.cost
        messages = (
            ModelRequest([UserPromptPart(prompt.text)]),
            ModelResponse([TextPart(text)] if text else [], usage=usage),
        )
        return End(
            messages=messages,
            usage=state.usage,
            contents=state.contents,
            executed=(),
            env_state=state.env_state,
            previous=state,
            reason=EndReason.ANSWERED,
        )


def pytest_siren_components_register(registry):
    for name, config in (("rules", Config), ("own", WithModel)):
        component = Component(config, lambda config, base: Rules(config), needs_model=False)
        registry.add(Kind.AGENT, name, component)
"""


@pytest.fixture
def rules(distributed: Project) -> Project:
    distributed.write("rules_agent.py", RULES)
    with open(distributed.path / "conftest.py", "a") as conftest:
        conftest.write('\npytest_plugins = ["rules_agent"]\n')
    use_agent(distributed, "{type: rules}")
    return distributed


def use_agent(project: Project, agent: str) -> None:
    path = project.path / "evals/eval_mail.yaml"
    head = path.read_text().partition("agent:")[0]
    path.write_text(f"{head}agent: {agent}\n")


def test_a_session_without_a_model_has_all_that_others_have(
    rules: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    use_agent(rules, "{type: rules, config: {says: all}}")
    done = rules.run(
        *("evals", "--attack=direct", "--benign", "-v", "--gate=utility >= 0.1"),
        *("--siren-report=out.md", "--siren-report=out.html", "--siren-report=out.sarif"),
    )
    output = done.stdout.str()
    assert "evals/eval_mail.yaml::summary[benign-rules-run0]" in output
    assert "evals/eval_mail.yaml::summary:advert[direct-rules-run0]" in output
    assert "mail | rules | no model | benign" in output
    assert "cost" not in output.partition("mail | rules")[2]
    for name in ("out.md", "out.html", "out.sarif"):
        assert "no model" in (rules.path / name).read_text()
    for job in rules.jobs():
        assert "_rules_no_model_" in job.name
        config = yaml.safe_load((job / CONFIG_FILE).read_text())
        assert (config["model_label"], config["model_kind"]) == ("no model", "none")
        assert "model" not in config["agent"]["config"]
    assert all(result["cost"] == 0 for result in rules.results())
    assert main(["results", "--jobs-dir", str(rules.path / "jobs"), "--group-by=model"]) == 0
    assert "no model" in capsys.readouterr().out
    again = rules.run("--lf", "-v")
    assert len(rules.results()) == 6
    assert "mail | rules | no model | benign" in again.stdout.str()


@pytest.mark.inside
def test_a_model_of_the_command_line_has_no_effect_and_is_noted_once(rules: Project) -> None:
    done = rules.run("evals", "--model=scripted:echo,scripted:deaf", "-v")
    note = "--model scripted:echo,scripted:deaf has no effect: the agent rules needs no model"
    assert done.stdout.str().count(note) == 1
    assert len(rules.jobs()) == 1


@pytest.mark.inside
def test_a_model_in_the_file_is_an_error_with_its_line(rules: Project) -> None:
    use_agent(rules, "\n  type: rules\n  config: {model: x}")
    done = rules.run("evals")
    line = (rules.path / "evals/eval_mail.yaml").read_text().splitlines().index("  type: rules")
    message = "the agent 'rules' needs no model: leave out agent.config.model"
    assert f"evals/eval_mail.yaml:{line + 2}: {message}" in done.stdout.str()
    assert done.ret == 2


@pytest.mark.inside
def test_a_key_called_model_may_be_the_agents_own(rules: Project) -> None:
    use_agent(rules, "{type: own, config: {model: noon}}")
    rules.run("evals", "--model=scripted:echo")
    assert {result["output"] for result in rules.results()} == {"noon"}


@pytest.mark.inside
def test_another_agent_leaves_the_model_of_the_files_agent(rules: Project) -> None:
    use_agent(rules, '{config: {model: "scripted:echo"}}')
    done = rules.run("evals", "--agent=plain,rules", "-v")
    output = done.stdout.str()
    assert "summary[benign-scripted:echo-run0]" in output
    assert "summary[benign-rules-run0]" in output
    assert "has no effect" not in output


@pytest.mark.inside
def test_an_agent_that_asks_all_the_same_is_told_what_to_declare(rules: Project) -> None:
    use_agent(rules, "{type: rules, config: {asks: true}}")
    rules.run("evals")
    infos = [result["exception_info"] for result in rules.results()]
    assert {info["exception_type"] for info in infos} == {"NoModelError"}
    assert "needs_model=False" in infos[0]["exception_message"]


@pytest.mark.inside
def test_an_agent_that_says_nothing_is_scored(rules: Project) -> None:
    use_agent(rules, '{type: rules, config: {says: ""}}')
    rules.run("evals")
    assert {result["benign_score"] for result in rules.results()} == {0.0}


@pytest.mark.inside
@pytest.mark.parametrize(
    ("config", "cost"),
    [("tokens: 0", 0.0), ("tokens: 5", None), ("tokens: 5, cost: 0.25", 0.25)],
)
def test_the_cost_is_what_the_agents_messages_say(
    rules: Project, config: str, cost: float | None
) -> None:
    use_agent(rules, f"{{type: rules, config: {{{config}}}}}")
    rules.run("evals")
    assert [result["cost"] for result in rules.results()] == [cost, cost]


@pytest.mark.inside
def test_siren_config_shows_and_validates_it(
    rules: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "validate", str(rules.path / "evals/eval_mail.yaml")]) == 0
    assert "agent rules; model no model" in capsys.readouterr().out
    assert main(["config", "show", str(rules.path / "evals/eval_mail.yaml")]) == 0
    assert "inline, rules, no model, benign" in capsys.readouterr().out


def test_the_recorded_configuration_makes_the_same_job(rules: Project) -> None:
    rules.run("evals")
    [job] = rules.jobs()
    config = job / CONFIG_FILE
    before = yaml.safe_load(config.read_text())["identity"]
    rules.run(str(config.relative_to(rules.path)))
    configs = [yaml.safe_load((one / CONFIG_FILE).read_text()) for one in rules.jobs()]
    assert [one["identity"] for one in configs] == [before, before]
