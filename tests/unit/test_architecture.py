"""The page about the house tells the truth about the house."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest

import pytest_siren

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "pytest_siren"


def test_every_place_that_the_page_names_is_there() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    named = re.findall(r"`(src/[^`]+)`", page)
    assert len(named) > 10
    assert [place for place in named if not (ROOT / place).exists()] == []


def test_every_package_has_a_place_on_the_page() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    packages = [path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()]
    assert [name for name in packages if f"`src/pytest_siren/{name}/`" not in page] == []


@pytest.mark.parametrize("room", ["session", "metrics"])
def test_a_room_has_at_most_ten_entries(room: str) -> None:
    entries = [path.name for path in (PACKAGE / room).iterdir() if not path.name.startswith("__")]
    assert len(entries) <= 10, sorted(entries)


def test_every_file_that_the_page_names_is_there() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    named = set(re.findall(r"`([\w/]+/[\w/]+\.py)(?::\w+)?`", page))
    assert len(named) > 10
    places = (ROOT, PACKAGE)
    assert [name for name in named if not any((at / name).exists() for at in places)] == []


def test_the_page_is_short() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text().splitlines()) <= 70


def test_importing_the_plugin_loads_pytest_and_the_standard_library_only() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules); import pytest_siren.plugin;"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded - set(sys.stdlib_module_names) == {"pytest_siren"}


def test_the_controller_loads_nothing_heavy_before_it_starts_the_workers() -> None:
    code = (
        "import sys, xdist.dsession; before = set(sys.modules);"
        "import pytest_siren.plugin, pytest_siren.distribute.xdist.process;"
        "import pytest_siren.distribute.xdist.controller;"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded - set(sys.stdlib_module_names) == {"pytest_siren"}


def test_a_controller_need_not_load_what_runs_are_made_of_to_learn_what_was_planned() -> None:
    """It takes half a second, in which a session that has been stopped would not end."""
    code = "import sys, pytest_siren.session.gating.manifest; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"pydantic_ai", "pandas", "scipy"}.isdisjoint(done.stdout.split())


def test_what_every_session_with_evaluations_begins_with_is_light() -> None:
    """The rest is loaded by the process that executes runs, or by the option that needs it."""
    code = "import sys, pytest_siren.session.lifecycle.begin; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"pydantic", "pydantic_core", "pydantic_ai", "yaml", "rich", "pandas", "jinja2"}
    assert heavy & set(done.stdout.split()) == set()


MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if path.name != "__main__.py"
)


# By itself only a module of a cycle could fail to be imported, and import-linter forbids cycles.
@pytest.mark.slow
@pytest.mark.parametrize(
    "alone", ["", pytest.param("alone", marks=pytest.mark.nightly)], ids=["in turn", "alone"]
)
def test_every_module_imports_without_a_warning(alone: str) -> None:
    # One interpreter that forgets the package between modules: an interpreter each takes minutes.
    code = """
import importlib, sys, warnings
import pydantic_ai, pydantic_ai.models.openai
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    try:
        import agentdojo.task_suite.load_suites
    except ImportError:
        pass
warnings.simplefilter("error")
alone, *names = sys.argv[1:]
for name in names:
    for loaded in [m for m in sys.modules if alone and m.partition(".")[0] == "pytest_siren"]:
        del sys.modules[loaded]
    importlib.import_module(name)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, alone, *MODULES], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_nothing_prints_or_reaches_into_pytest() -> None:
    sources = {path: path.read_text() for path in PACKAGE.rglob("*.py")}
    assert [path for path, text in sources.items() if re.search(r"^\s*print\(", text, re.M)] == []
    reaches = [path for path, text in sources.items() if re.search(r"(from|import) _pytest", text)]
    assert reaches == []


def test_every_imported_package_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    requirements = [*project["dependencies"], *chain.from_iterable(extras)]
    declared = {re.split(r"[\[<>=~ ]", requirement)[0] for requirement in requirements}
    assert all(re.search(r">=\d", r) for r in requirements if not r.startswith("pytest-siren"))
    distributions = packages_distributions()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            else:
                continue
            for name in {name.partition(".")[0] for name in names}:
                if name in sys.stdlib_module_names or name == "pytest_siren":
                    continue
                # Those of an extra that is not installed have the name of their module.
                found = distributions.get(name, [name])
                owners = {owner.lower().replace("_", "-") for owner in found}
                assert owners & declared, f"{path.name} imports {name} of {owners}"


def test_the_public_names_are_there() -> None:
    assert [name for name in pytest_siren.__all__ if not hasattr(pytest_siren, name)] == []
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = pytest_siren.nothing


def test_the_reference_documents_every_exported_name() -> None:
    pages = "\n".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))
    words = set(re.findall(r"\w+", " ".join(re.findall(r"`[^`\n]+`", pages))))
    assert [name for name in pytest_siren.__all__ if name not in words | {"__version__"}] == []


OF_XDIST = re.compile(r"^\s*(from|import) xdist|siren-controller|workerinput|dsession|gw0", re.M)


def test_only_executors_know_what_distributes_a_session() -> None:
    modules = [path for path in PACKAGE.rglob("*.py") if "distribute" not in path.parts]
    assert [path for path in modules if OF_XDIST.search(path.read_text(encoding="utf-8"))] == []
    inside = (PACKAGE / "distribute").rglob("*.py")
    assert any(OF_XDIST.search(path.read_text(encoding="utf-8")) for path in inside)
