"""``logging:`` keeps a log in the folder of each job."""

from __future__ import annotations

import logging

import pytest

from tests.acceptance.conftest import Project

pytestmark = pytest.mark.inside

EVAL = """
dataset:
  type: inline
  config:
    name: shop
    tools: ["shoptools:lookup"]
    tasks:
      - {id: first, prompt: One?, evaluators: {good: {type: contains, value: value}}}
      - {id: second, prompt: Two?, evaluators: {good: {type: contains, value: value}}}
agent:
  config: {model: "scripted:call-lookup"}
"""
TOOLS = '''
import logging


def lookup(query: str) -> str:
    """Look something up."""
    logging.getLogger("shop").debug("looked up %s", query)
    logging.getLogger("shop").info("sold out\\x1b[2J with sk-very-secret-0123456789")
    return "Good value."
'''


@pytest.fixture
def shop(project: Project) -> Project:
    project.write("evals/shoptools.py", TOOLS)
    project.write("evals/eval_shop.yaml", EVAL)
    return project


def log(project: Project) -> list[str]:
    [job] = project.jobs()
    return sorted((job / "siren.log").read_text().splitlines())


def test_each_line_names_its_run(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_API_KEY", "sk-very-secret-0123456789")
    shop.run("evals/eval_shop.yaml", "--set=logging.level=INFO")
    lines = log(shop)
    assert len(lines) == 6
    for task, mine in (("first", lines[:3]), ("second", lines[3:])):
        begins, sold, scored = mine
        assert begins.startswith(f"[{task} run0] 20")
        assert begins.endswith("INFO pytest_siren.runs: begins")
        assert "INFO shop: sold out\\x1b[2J with " in sold
        assert "very-secret" not in sold
        assert ": scored after " in scored
        assert scored.endswith("benign_score 1.0, attack_score None")


def test_the_level_decides(shop: Project) -> None:
    shop.write("evals/eval_shop.yaml", f"{EVAL}logging: {{level: DEBUG}}\n")
    shop.run("evals/eval_shop.yaml", "--task-ids=first")
    text = "\n".join(log(shop))
    assert "DEBUG shop: looked up x" in text
    assert "DEBUG pytest_siren.runs: lookup returned 11 characters" in text
    assert "DEBUG pytest_siren.runs: agent: scripted:call-lookup answered" in text


def test_errors_are_logged(shop: Project) -> None:
    shop.write("evals/eval_shop.yaml", f"{EVAL}logging: {{level: ERROR}}\n")
    shop.run("evals/eval_shop.yaml", "--task-ids=first", "--model=scripted:crash")
    [line] = log(shop)
    assert "ERROR pytest_siren.runs: error after" in line
    assert line.endswith("RuntimeError: the model is on fire")


@pytest.mark.parametrize("section", ["", "logging: {file: false}", "logging: null"])
def test_there_is_no_log_unless_it_is_asked_for(shop: Project, section: str) -> None:
    shop.write("evals/eval_shop.yaml", f"{EVAL}{section}\n")
    shop.run("evals/eval_shop.yaml")
    [job] = shop.jobs()
    assert not (job / "siren.log").exists()


def test_the_root_logger_is_left_as_it_was(shop: Project) -> None:
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    shop.run("evals/eval_shop.yaml", "--set=logging.level=DEBUG")
    assert (root.level, list(root.handlers)) == before


@pytest.mark.nightly
def test_workers_write_into_one_log(shop: Project) -> None:
    shop.run("evals/eval_shop.yaml", "--set=logging.level=INFO", "--runs=3", "-n2")
    begun = [line for line in log(shop) if line.endswith(": begins")]
    assert len(begun) == 6
    assert len(set(begun)) == 6


def test_a_log_that_cannot_be_written_costs_a_warning(shop: Project) -> None:
    shop.run("evals/eval_shop.yaml", "--set=output.job_name=shop", "--set=logging.level=INFO")
    path = shop.path / "jobs/shop/siren.log"
    path.unlink()
    path.mkdir()
    done = shop.run("--resume=shop", "--rerun-scored")
    assert "siren.log cannot be written: Is a directory" in done.stdout.str()
