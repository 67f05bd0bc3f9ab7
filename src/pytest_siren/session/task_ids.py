"""``--task-ids`` of the command line: each has to be in one of the eval files, not in all."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

import pytest

from pytest_siren.session.text import printable

_MOST = 3
"""Near names, and datasets, that a message shows."""


@dataclass(eq=False)
class AskedTaskIds:
    """Which of the ids that the command line names the datasets of the session have."""

    ids: Sequence[str]
    _found: set[str] = field(default_factory=set)
    _near: dict[str, list[str]] = field(default_factory=dict)
    _datasets: list[str] = field(default_factory=list)

    def look_for(self, dataset: str, known: Collection[str]) -> None:
        """Note which ids are ``known`` in ``dataset``, and what is like those that are not."""
        if dataset not in self._datasets:
            self._datasets.append(dataset)
        for task_id in self.ids:
            if task_id in known:
                self._found.add(task_id)
            elif task_id not in self._found:
                near = get_close_matches(task_id, known, n=1)
                self._near.setdefault(task_id, []).extend(near)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, session: pytest.Session) -> None:
        """Report ids that no eval file knows as an error of collection, once."""
        # What could not be collected may know them.
        problems = [] if session.testsfailed else self._problems()
        if problems:
            report = pytest.CollectReport("--task-ids", "failed", "\n".join(problems), [])
            session.config.hook.pytest_collectreport(report=report)

    def _problems(self) -> list[str]:
        return [
            f"{self._where()} task {task_id!r}{self._hint(near)}"
            for task_id, near in self._near.items()
            if task_id not in self._found
        ]

    def _where(self) -> str:
        first, *others = [printable(name, 80) for name in self._datasets]
        if not others:
            return f"{first} has no"
        if len(self._datasets) > _MOST:
            others = [*others[: _MOST - 1], f"any of {len(self._datasets) - _MOST} others"]
        return f"neither {first} nor {' nor '.join(others)} has the"

    def _hint(self, near: Sequence[str]) -> str:
        names = [repr(name) for name in dict.fromkeys(near)][:_MOST]
        if not names:
            return ""
        *most, last = names
        return f" (did you mean {', '.join(most)}{' or ' if most else ''}{last}?)"
