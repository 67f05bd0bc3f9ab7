"""Finds the root folder of a project, where pytest puts jobs, without starting pytest."""

from __future__ import annotations

import configparser
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

_SECTIONS = {"tox.ini": "pytest", "setup.cfg": "tool:pytest"}
"""File name to the section that holds pytest's configuration."""
_TOML = ("pytest.toml", ".pytest.toml")
_KEY = "siren_jobs_dir"
DEFAULT = "jobs"


def jobs_folder(here: Path) -> Path:
    """Return where pytest, started in ``here``, would put jobs.

    A folder ``jobs`` in ``here`` itself comes first, relative as it is. The root folder is the
    nearest one, from ``here`` upwards, with a file that holds a configuration of pytest.
    """
    near = here / DEFAULT
    for folder in () if near.is_dir() else (here, *here.parents):
        values = _configuration(folder)
        if values is not None:
            chosen = folder / str(values.get(_KEY) or DEFAULT)
            return Path(DEFAULT) if chosen == near else chosen
    return Path(DEFAULT)


def root_folder(here: Path) -> Path:
    """Return the root folder of the project that ``here`` is in; ``here`` without one."""
    folders = (folder for folder in (here, *here.parents) if _configuration(folder) is not None)
    return next(folders, here)


def _configuration(folder: Path) -> dict[str, Any] | None:
    """Return the pytest configuration in ``folder``; ``None`` without one."""
    for name in _TOML:
        if (folder / name).is_file():
            return dict(_read_toml(folder / name).get("pytest", {}))
    for name in ("pytest.ini", ".pytest.ini"):
        if (folder / name).is_file():
            return _read_ini(folder / name, "pytest") or {}
    if (folder / "pyproject.toml").is_file():
        tool = _read_toml(folder / "pyproject.toml").get("tool", {}).get("pytest")
        if isinstance(tool, dict):
            return {**tool, **tool.get("ini_options", {})}
    for name, section in _SECTIONS.items():
        found = _read_ini(folder / name, section)
        if found is not None:
            return found
    return None


def _read_toml(path: Path) -> dict[str, Any]:
    # pytest reports errors of the file.
    with suppress(OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return tomllib.loads(path.read_text(encoding="utf-8"))
    return {}


def _read_ini(path: Path, section: str) -> dict[str, Any] | None:
    parser = configparser.ConfigParser(interpolation=None, strict=False, allow_no_value=True)
    with suppress(OSError, UnicodeDecodeError, configparser.Error):
        parser.read_string(path.read_text(encoding="utf-8"))
    return dict(parser[section]) if parser.has_section(section) else None
