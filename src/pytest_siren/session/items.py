"""One run as one pytest item."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_siren.session.job import Job, task_id
from pytest_siren.session.outcome import RunErrorError, RunFailedError
from pytest_siren.session.state import EVALUATIONS
from pytest_siren.spec.identity import run_identity

if TYPE_CHECKING:
    from pytest_siren.evaluation.tasks import BenignTask, MaliciousTask


class RunItem(pytest.Item):
    """A benign task or couple, run once."""

    job: Job
    benign: BenignTask
    malicious: MaliciousTask | None
    run_index: int
    reported: bool = False
    """Whether pytest has asked for its outcome before, in this session."""
    needed: bool = True
    """Whether it is to be executed; not where records of other runs have made it needless."""

    @classmethod
    def of(
        cls,
        parent: pytest.Collector,
        job: Job,
        benign: BenignTask,
        malicious: MaliciousTask | None,
        run_index: int,
    ) -> RunItem:
        """Make the item, with a node id that only the configuration decides."""
        name = visible(f"{task_id(benign, malicious)}[{job.label}-run{run_index}]")
        # In a text, pytest takes the brackets for parameters, as it does when it reads its cache.
        item: RunItem = cls.from_parent(parent, name=name, nodeid=f"{parent.nodeid}::{name}")
        item.job, item.benign, item.malicious, item.run_index = job, benign, malicious, run_index
        return item

    @property
    def identity(self) -> str:
        """Hash of the job's configuration, the task and the run index."""
        return run_identity(self.job.identity, task_id(self.benign, self.malicious), self.run_index)

    @property
    def run_key(self) -> tuple[str, str, int]:
        """Identity of the job, id of the task, and run index."""
        return self.job.identity, task_id(self.benign, self.malicious), self.run_index

    def iter_markers_with_node(self, name: str | None = None) -> Iterator[tuple[Any, pytest.Mark]]:
        """Yield the markers; no plugin finds ``flaky``, which asks for tests to be repeated."""
        return iter(()) if name == "flaky" else super().iter_markers_with_node(name)

    def runtest(self) -> None:
        """Raise what the run came to, unless it passes. It has been executed already."""
        self.config.stash[EVALUATIONS].tell(self)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return one line for what a run came to, and a traceback for everything else."""
        if isinstance(excinfo.value, RunFailedError | RunErrorError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        return self.path, None, self.name


def visible(name: str) -> str:
    """Return ``name`` with every character that does not print spelled out."""
    if name.isprintable():
        return name
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in name
    )
