"""The page about the house tells the truth about the house."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "pytest_siren"


def test_every_place_that_the_page_names_is_there() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    named = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    assert len(named) > 10
    assert [place for place in named if not (ROOT / place).exists()] == []


def test_every_package_has_a_place_on_the_page() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    packages = [path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()]
    assert [name for name in packages if f"`src/pytest_siren/{name}/`" not in page] == []


def test_the_page_is_short() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text().splitlines()) <= 60


def test_importing_the_plugin_loads_pytest_and_the_standard_library_only() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules); import pytest_siren.plugin;"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded - set(sys.stdlib_module_names) == {"pytest_siren"}


MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if path.name != "__main__.py"
)


@pytest.mark.slow
def test_every_module_imports_alone_and_without_a_warning() -> None:
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
for name in sys.argv[1:]:
    for loaded in [m for m in sys.modules if m.partition(".")[0] == "pytest_siren"]:
        del sys.modules[loaded]
    importlib.import_module(name)
"""
    done = subprocess.run([sys.executable, "-c", code, *MODULES], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_nothing_prints_or_reaches_into_pytest() -> None:
    sources = {path: path.read_text() for path in PACKAGE.rglob("*.py")}
    assert [path for path, text in sources.items() if re.search(r"^\s*print\(", text, re.M)] == []
    reaches = [path for path, text in sources.items() if re.search(r"(from|import) _pytest", text)]
    assert reaches == []
