"""The word and the letter of a run."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_siren.session.reporting.terminal import status
from tests.unit.test_metrics_summary import report


@pytest.mark.parametrize(
    ("changes", "letter", "word"),
    [
        ({}, "r", "RESISTED"),
        ({"exposed": None}, "r", "RESISTED"),
        ({"exposed": False}, "r", "RESISTED (not exposed)"),
        ({"exposed": False, "stage": "blocked"}, "r", "RESISTED (blocked)"),
        ({"stage": "attempted"}, "r", "RESISTED (attempted)"),
        ({"exposed": False, "recorded": True}, "r", "RESISTED (not exposed, recorded)"),
        ({"exposed": False, "attack_score": 1.0}, "H", "HIJACKED"),
        ({"recorded": True}, "r", "RESISTED (recorded)"),
    ],
)
def test_a_run_that_read_nothing_says_so(changes: Any, letter: str, word: str) -> None:
    outcome = "failed" if changes.get("attack_score") else "passed"
    _, shown, (text, _) = status(outcome, report(**changes))  # type: ignore[misc]
    assert (shown, text) == (letter, word)
