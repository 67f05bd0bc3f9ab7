from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pytest_siren.evaluators.python import ImportPathError, load_callable, local_file
from tests.unit.inline_sample import refusals, said, score

_CHECKS = '''
import threading

async def slow(evidence, *, wanted):
    return wanted in evidence.output

def share(evidence, divisor=1):
    return len(evidence.output) / divisor

def late(evidence):
    async def later():
        return 0.25
    return later()

def thread(evidence):
    return threading.current_thread() is not threading.main_thread()

def nothing(evidence):
    """Forgets to return."""

def broken(evidence):
    raise RuntimeError("the evaluator is broken")

def stops(evidence):
    return next(iter(()))

class Judge:
    def verdict(self, evidence):
        return True

judge = Judge()
number = 3
'''


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "checks.py").write_text(_CHECKS)
    return tmp_path


def python(path: str, **config: Any) -> dict[str, Any]:
    return {"type": "python", "path": path, "config": config}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (python("checks:slow", wanted="yes"), 1.0),
        (python("checks:slow", wanted="no"), 0.0),
        (python("checks:share", divisor=6), 0.5),
        (python("checks:late"), 0.25),
        (python("checks:judge.verdict"), 1.0),
        (python("checks:thread"), 1.0),
    ],
)
def test_a_function_judges(base: Path, config: dict[str, Any], expected: float) -> None:
    assert score(config, said("yes"), base) == expected


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("checks:nothing", TypeError, "evaluator checks:nothing returned NoneType, expected a"),
        ("checks:broken", RuntimeError, "the evaluator is broken"),
        ("checks:stops", RuntimeError, "the evaluator raised StopIteration"),
    ],
)
def test_a_broken_evaluator_is_an_error_of_the_run(
    base: Path, path: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        score(python(path), said("yes"), base)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            python("chekcs:slow"),
            "there is no module 'chekcs' (did you mean 'checks'?), neither in the folder",
        ),
        (python("checks.sub:slow"), "'checks.sub:slow': there is no module 'checks.sub'"),
        (python("checks:slwo"), "'checks:slwo': the module 'checks' has no 'slwo'"),
        (python("checks:judge.vredict"), "the module 'checks' has no 'judge.vredict'"),
        (python("checks:number"), "'checks:number' is int, which cannot be called"),
        (python("checks:slow"), "cannot be called as slow(evidence, **config): missing a required"),
        (python("checks:share", factor=1), "got an unexpected keyword argument 'factor'"),
    ],
)
def test_code_that_is_not_there_is_found_before_the_run(
    base: Path, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ImportPathError) as caught:
        score(config, said("yes"), base)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "path", ["checks", "checks.slow", "checks:", ":slow", "a/b:c", "a:b()", "a:b:c"]
)
def test_a_path_that_is_none_is_refused(path: str) -> None:
    ((place, message),) = refusals(python(path))
    assert place == ("path",)
    assert message == f"{path!r} is not an import path such as mytools:search (module:callable)"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("1 / 0", "importing 'bad' failed: ZeroDivisionError: division by zero"),
        ("def f(:", "importing 'bad' failed: SyntaxError: "),
        ("import nowhere_at_all", "importing 'bad' failed: ModuleNotFoundError: No module named"),
        ("raise SystemExit(3)", "importing 'bad' failed: SystemExit: 3"),
    ],
)
def test_a_module_that_cannot_be_imported_says_why(
    tmp_path: Path, source: str, message: str
) -> None:
    (tmp_path / "bad.py").write_text(source)
    with pytest.raises(ImportPathError) as caught:
        load_callable("bad:f", tmp_path)
    assert message in str(caught.value)


def test_installed_modules_are_found_too(tmp_path: Path) -> None:
    assert load_callable("json:dumps", tmp_path)([1]) == "[1]"
    assert local_file("json:dumps", tmp_path) is None


def test_the_standard_library_keeps_its_names(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("def dumps(value):\n    return 'mine'\n")
    before = sys.modules["json"]
    assert load_callable("json:dumps", tmp_path)([1]) == "[1]"
    assert sys.modules["json"] is before


def test_modules_of_a_folder_may_import_one_another(tmp_path: Path) -> None:
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "kinds.py").write_text("class Mail:\n    pass\n")
    (package / "checks.py").write_text(
        "from . import kinds\nfrom pkg.kinds import Mail\nimport sibling\n"
        "def same(value):\n"
        "    return isinstance(value, Mail) and kinds.Mail is Mail and sibling.Mail is Mail\n"
    )
    (tmp_path / "sibling.py").write_text(
        "from pkg.kinds import Mail\ndef make():\n    return Mail()\n"
    )
    mail = load_callable("sibling:make", tmp_path)()
    assert load_callable("pkg.checks:same", tmp_path)(mail) is True
    assert load_callable("pkg.kinds:Mail", tmp_path) is type(mail)
    assert local_file("pkg.checks:same", tmp_path) == package / "checks.py"
    assert local_file("pkg:x", tmp_path) == package / "__init__.py"


def test_folders_with_modules_of_one_name_stay_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = ModuleType("helpers")
    loaded.value = "the project's own"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "helpers", loaded)
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "helpers.py").write_text(f"value = {name!r}\n")
        (folder / "tools.py").write_text("import helpers\ndef tell():\n    return helpers.value\n")
    path = list(sys.path)
    tell = [load_callable("tools:tell", tmp_path / name) for name in ("a", "b", "a")]
    assert [each() for each in tell] == ["a", "b", "a"]
    assert tell[0] is tell[2]
    assert sys.modules["helpers"] is loaded
    assert "tools" not in sys.modules
    assert sys.path == path


def test_a_module_that_is_already_loaded_from_the_folder_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "already.py").write_text("def f():\n    return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import already  # type: ignore[import-not-found]

    try:
        assert load_callable("already:f", tmp_path) is already.f
        assert sys.modules["already"] is already
    finally:
        del sys.modules["already"]


def test_a_failed_import_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "helpers.py").write_text("value = 1\n")
    (tmp_path / "fails.py").write_text("import helpers\nraise ValueError('no')\n")
    path = list(sys.path)
    with pytest.raises(ImportPathError, match="ValueError: no"):
        load_callable("fails:f", tmp_path)
    assert sys.path == path
    assert not {"fails", "helpers"} & set(sys.modules)


def test_plain_functions_do_not_run_in_the_loop(base: Path) -> None:
    assert threading.current_thread() is threading.main_thread()
    assert score(python("checks:thread"), said(""), base) == 1.0
