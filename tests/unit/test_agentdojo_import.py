"""AgentDojo's suites come without any SDK, and AgentDojo is whole for whoever wants it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("agentdojo", reason="needs the extra agentdojo")

LOAD = """
import sys
from pathlib import Path
from pytest_siren.datasets.agentdojo import AgentDojoConfig, load
dataset = load(AgentDojoConfig(), Path())
"""
SDKS = ("anthropic", "cohere", "google.genai", "vertexai", "openai")


def run(code: str, *args: str, cwd: Path | None = None) -> str:
    command = [sys.executable, *args, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_suites_come_without_the_sdks_and_without_a_warning() -> None:
    shown = run(f"{LOAD}\nprint([sdk for sdk in {SDKS} if sdk in sys.modules])", "-W", "error")
    assert shown == "[]"


def test_the_system_prompt_is_the_one_that_agentdojo_loads() -> None:
    run(
        f"""{LOAD}
from agentdojo.agent_pipeline.agent_pipeline import load_system_message
assert dataset.benign_tasks[0].system_prompt == load_system_message(None)
"""
    )


def test_agentdojo_is_whole_for_whoever_imports_it_later() -> None:
    run(
        f"""{LOAD}
import pickle, types
from agentdojo.agent_pipeline import AgentPipeline, GoogleLLM, InitQuery, PipelineConfig
import agentdojo.agent_pipeline as package
import agentdojo.agent_pipeline.llms.google_llm as google
from agentdojo.agent_pipeline.base_pipeline_element import BasePipelineElement
from agentdojo.agent_pipeline.tool_execution import EMPTY_FUNCTION_NAME

assert type(package) is type(google) is types.ModuleType
assert package is sys.modules["agentdojo.agent_pipeline"]
assert AgentPipeline.__module__ == "agentdojo.agent_pipeline.agent_pipeline"
assert GoogleLLM is google.GoogleLLM
assert google.EMPTY_FUNCTION_NAME == EMPTY_FUNCTION_NAME
assert isinstance(AgentPipeline([InitQuery()]), BasePipelineElement)
assert isinstance(pickle.loads(pickle.dumps(InitQuery())), InitQuery)
assert set(package.__all__) <= set(vars(package))
assert package.__loader__ is package.__spec__.loader
assert not [name for name in vars(package) if "siren" in name]
"""
    )


def test_what_was_imported_before_stays_as_it_is() -> None:
    run(
        f"""
import sys, types, warnings
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import agentdojo.agent_pipeline as before
pipeline = before.AgentPipeline
{LOAD}
assert sys.modules["agentdojo.agent_pipeline"] is before
assert type(before) is types.ModuleType
from agentdojo.agent_pipeline import AgentPipeline
assert AgentPipeline is pipeline
"""
    )


def test_a_star_import_and_dir_see_every_name() -> None:
    run(
        f"""{LOAD}
import agentdojo.agent_pipeline as package
assert "AgentPipeline" in dir(package)
names = {{}}
exec("from agentdojo.agent_pipeline import *", names)
assert set(package.__all__) <= set(names)
"""
    )


def test_looking_through_all_modules_executes_nothing() -> None:
    run(
        f"""{LOAD}
for module in list(sys.modules.values()):
    getattr(module, "__warningregistry__", None), getattr(module, "__path__", None)
assert "cohere" not in sys.modules
"""
    )


def test_threads_that_ask_at_once_get_the_same() -> None:
    run(
        f"""{LOAD}
from concurrent.futures import ThreadPoolExecutor
import agentdojo.agent_pipeline as package
with ThreadPoolExecutor(8) as pool:
    found = list(pool.map(lambda _: package.AgentPipeline, range(8)))
assert len(set(found)) == 1
"""
    )


def package(folder: Path, init: str, google: str) -> None:
    """Write a package ``agentdojo`` whose modules tell when they are executed."""
    llms = folder / "agentdojo" / "agent_pipeline" / "llms"
    llms.mkdir(parents=True)
    (folder / "agentdojo" / "__init__.py").write_text("executed = []\n")
    (folder / "agentdojo" / "agent_pipeline" / "__init__.py").write_text(init)
    (llms / "__init__.py").write_text("")
    (llms / "google_llm.py").write_text(google)


IMPORT = """
import sys
sys.path.insert(0, "")
from pytest_siren.environments.agentdojo_import import without_sdks
with without_sdks():
    import agentdojo.agent_pipeline.llms.google_llm as google
import agentdojo.agent_pipeline as pipeline
"""


def test_a_package_that_does_more_than_define_names_is_executed_at_once(tmp_path: Path) -> None:
    package(tmp_path, "import agentdojo\nagentdojo.executed.append('init')\n", "A = 1\nA += 1\n")
    run(f"{IMPORT}\nassert sys.modules['agentdojo'].executed == ['init']", cwd=tmp_path)
    run(f"{IMPORT}\nassert vars(google)['A'] == 2", cwd=tmp_path)


@pytest.mark.parametrize("again", ["B = 'second'", "def B(): ...", "from os import sep as B"])
def test_a_constant_that_is_bound_twice_is_not_guessed(tmp_path: Path, again: str) -> None:
    package(tmp_path, "", f"B = 'first'\nC = 'only'\n{again}\n")
    run(
        f"{IMPORT}\nassert 'B' not in vars(google) and vars(google)['C'] == 'only'\n"
        "assert google.B != 'first'",
        cwd=tmp_path,
    )


def test_an_import_that_fails_says_so_each_time_it_is_asked_for(tmp_path: Path) -> None:
    package(tmp_path, "from absent_sdk import Client\n", "")
    run(
        f"""{IMPORT}
for _ in range(2):
    try:
        pipeline.Client
    except ImportError as error:
        assert "absent_sdk" in str(error)
    else:
        raise AssertionError("no error")
""",
        cwd=tmp_path,
    )


def test_no_finder_is_left_behind() -> None:
    run(f"before = list(__import__('sys').meta_path)\n{LOAD}\nassert sys.meta_path == before")
