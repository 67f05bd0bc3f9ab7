"""What is to be said of a session as a whole, beside its table."""

from __future__ import annotations

from dataclasses import dataclass

_LONGEST = 500
"""Terminal cells of a reason."""


@dataclass(frozen=True)
class Facts:
    """Counts of a session at its end."""

    total: int
    """Runs that were collected, and not deselected."""
    cancelled: int = 0
    """Runs that were in flight when the session was stopped."""
    deaths: int = 0
    """Worker processes that died with runs in flight."""
    reported: int = 0
    """Runs that pytest was told of."""
    errors: int = 0
    """Runs among these that ended in an error."""
    recorded: int = 0
    """Runs among these that were told from their records."""
    hung: int = 0
    """Calls that did not end when their runs were stopped, and were abandoned."""
    unavailable: tuple[str, ...] = ()
    """Why no run on some models can succeed, where the session did not end for that reason."""
    not_needed: int = 0
    """Runs that were left out because every gate was settled without them."""
    ended: int = 0
    """Runs whose outcome is recorded, also those that pytest was stopped before it reported."""

    @property
    def pending(self) -> int:
        """Runs that are still to be executed, or at least to be reported."""
        return self.total - self.reported - self.not_needed

    @property
    def unreported(self) -> int:
        """Runs among the pending ones that are recorded, so that ``--lf`` only reports them."""
        return min(self.pending, max(0, self.ended - self.reported))


def notes(facts: Facts, command: str) -> list[str]:
    """Return a line for each thing that a reader of the table must know.

    ``command`` executes what is left.
    """
    lines = []
    if facts.recorded:
        lines.append(f"recorded: {facts.recorded:,} of {facts.total:,} runs, not executed again")
    unreported = facts.unreported
    pending = facts.pending - unreported
    if unreported:
        runs = "1 run" if unreported == 1 else f"{unreported:,} runs"
        lines.append(f"ended while the session was being stopped: {runs}, recorded, not shown here")
    if pending:
        line = f"pending: {pending:,} of {facts.total:,} runs"
        if facts.cancelled:
            line += f", {facts.cancelled:,} of them cancelled in flight"
        lines.append(line)
    if facts.deaths:
        workers = "1 worker" if facts.deaths == 1 else f"{facts.deaths:,} workers"
        lines.append(f"{workers} died; what was in flight there was given to other workers")
    if facts.hung:
        calls = "1 call" if facts.hung == 1 else f"{facts.hung:,} calls"
        lines.append(f"abandoned: {calls} of tools or other code that did not end when stopped")
    if facts.unavailable:
        # Only here: xdist's workers wait for the controller, which is to load little before.
        from pytest_siren.session.text import printable

        lines += [printable(reason, _LONGEST) for reason in facts.unavailable]
    if pending:
        lines.append(f"finish them with: {command}")
    elif unreported:
        lines.append(f"show all runs with: {command}")
    elif facts.errors:
        runs = "the run" if facts.errors == 1 else f"the {facts.errors:,} runs"
        lines.append(f"try {runs} in error again with: {command}")
    return lines
