"""Where one session keeps what it knows. Loaded by every pytest session, so nothing but keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from pytest_siren.jobs.writing.store import History
    from pytest_siren.session.config.invocation import SessionInfo
    from pytest_siren.sharing.state import SharedState


class ProcessEvaluations(Protocol):
    """What any part of a session may ask of this process's ``Evaluations``."""

    board: SharedState
    """The numbers that all processes of the session share."""

    @property
    def total(self) -> int:
        """Runs that this process is to execute."""
        ...

    @property
    def unavailable_named(self) -> bool:
        """Whether the session ends with the reasons why models are unavailable."""
        ...

    def tell(self, item: Any) -> None:
        """Tell pytest what the run of ``item`` came to: raise unless it passes."""
        ...


SESSION: pytest.StashKey[SessionInfo] = pytest.StashKey()
"""What the session is; absent until ``begin`` has been called."""
HISTORIES: pytest.StashKey[dict[str, History]] = pytest.StashKey()
"""What is recorded of the jobs that are gone on with, where this process has read it already."""
NOT_NEEDED = pytest.StashKey[int]()
"""Runs that were left out because everything was settled, or their tasks decided, without them."""
EARLY = pytest.StashKey[tuple[dict[str, list[str]], list[str]]]()
"""Identity of each job whose tasks may end early to the measures that decide them, and why tasks of
other jobs may not; only with ``--gate-stop``."""
DECIDED = pytest.StashKey[dict[str, str]]()
"""At the end: identity of each job whose tasks may have ended early, now or before, to the measures
that decided them, as ``metrics/frame.py`` has them."""
NOT_NEEDED_LINES = pytest.StashKey[list[str]]()
"""What a reader of the session's table must know of runs that were left out."""
EVALUATIONS: pytest.StashKey[ProcessEvaluations] = pytest.StashKey()
"""Absent until this process has seen an eval file."""
SECRETS = pytest.StashKey[set[str]]()
"""Values of the eval files that must be neither shown nor recorded."""
