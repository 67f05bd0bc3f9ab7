"""The components that a project's conftest.py files register, loaded by pytest."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path

import pytest

from pytest_siren.evaluation.components import Registry

_HOOK = "pytest_siren_components_register"


class ConftestError(Exception):
    """pytest cannot load the files that register components."""


class _Catch:
    """Keeps the registry that pytest has filled."""

    registry: Registry | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_siren_components_register(self, registry: Registry) -> None:
        """Keep the registry once pytest has loaded all conftest.py files of the first eval file."""
        self.registry = registry


def registry_for(files: Iterable[Path]) -> Registry:
    """Return the components for ``files``: the installed ones, and those of their conftest.py.

    pytest collects the files, without running anything, only if a conftest.py beside or above one
    of them names the hook: that takes a second. Raises ``ConftestError``.
    """
    found = list(files)
    return _loaded(found, []) if any(_registers(file) for file in found) else Registry()


@cache
def report_formats(folder: Path) -> Registry:
    """Return the components for reports: the installed ones, and those of ``folder``'s conftest.py.

    Raises ``ConftestError``.
    """
    conftest = folder / "conftest.py"
    # A session that writes a report in a format by name asks for components when it begins.
    return _loaded([conftest], ["--siren-report=html:x"]) if _registers(conftest) else Registry()


def _loaded(paths: Sequence[Path], options: Sequence[str]) -> Registry:
    catch = _Catch()
    asked = [*map(str, paths), *options]
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        pytest.main([*asked, "--collect-only", "-q", "-pno:cacheprovider"], [catch])
    if catch.registry is None:
        raise ConftestError(
            f"the components of conftest.py cannot be loaded; see: pytest --collect-only "
            f"{' '.join(asked)}"
        )
    return catch.registry


def _registers(file: Path) -> bool:
    conftests = (folder / "conftest.py" for folder in file.resolve().parents)
    return any(one.is_file() and _HOOK in one.read_text(errors="replace") for one in conftests)
