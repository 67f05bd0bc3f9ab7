"""The components that a project's conftest.py files register, as pytest finds them."""

from __future__ import annotations

import io
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from pytest_siren.evaluation.components import Registry

_HOOK = "pytest_siren_components_register"


class ConftestError(Exception):
    """pytest cannot load what registers the components."""


class _Catch:
    """Keeps the registry that pytest has filled."""

    registry: Registry | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_siren_components_register(self, registry: Registry) -> None:
        """Called once all conftest.py files on the way to the first eval file are loaded."""
        self.registry = registry


def registry_for(files: Iterable[Path]) -> Registry:
    """Return the components for ``files``: the installed ones, and those of their conftest.py.

    pytest collects the files, without running anything, only if a conftest.py beside or above one
    of them names the hook: that takes a second. Raises ``ConftestError``.
    """
    found = list(files)
    if not any(_registers(file) for file in found):
        return Registry()
    catch = _Catch()
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        pytest.main([*map(str, found), "--collect-only", "-q", "-pno:cacheprovider"], [catch])
    if catch.registry is None:
        raise ConftestError(
            "the components of conftest.py cannot be loaded; "
            f"see: pytest --collect-only {' '.join(map(str, found))}"
        )
    return catch.registry


def _registers(file: Path) -> bool:
    conftests = (folder / "conftest.py" for folder in file.resolve().parents)
    return any(one.is_file() and _HOOK in one.read_text(errors="replace") for one in conftests)
