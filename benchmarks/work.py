"""The two kinds of work that the harnesses are given, and the ideal time of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ALL_COUPLES = 560
"""40 user tasks and 14 injection tasks of the workspace suite, version v1.2.2."""

INJECTION_TASKS = 14


@dataclass(frozen=True)
class Work:
    """``runs`` of ``1 + len(calls)`` model requests, each answered after ``latency`` seconds."""

    name: str
    runs: int
    latency: float
    in_flight: int
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()

    @property
    def requests(self) -> int:
        return self.runs * (1 + len(self.calls))

    @property
    def ideal(self) -> float:
        """Seconds from the first request to the last answer, were everything else free."""
        return self.requests * self.latency / self.in_flight

    def couple_ids(self) -> list[str]:
        """Return the ids of the couples to run; none when all are."""
        if self.runs == ALL_COUPLES:
            return []
        # Whole user tasks, for that is how Inspect AI chooses.
        return [
            f"user_task_{user}:injection_task_{injection}"
            for user in range(self.runs // INJECTION_TASKS)
            for injection in range(INJECTION_TASKS)
        ]


def one_call(runs: int) -> Work:
    """Runs of one request of 300 ms, 64 in flight."""
    return Work("one-call", runs, 0.3, 64)


def couples(runs: int) -> Work:
    """Couples of AgentDojo's workspace suite: two tool calls and an answer, 100 ms each."""
    calls = (("get_current_day", {}), ("get_unread_emails", {}))
    return Work("couples", runs, 0.1, 64, calls)
