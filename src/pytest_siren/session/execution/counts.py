"""What a session counts and spends, in lines for its summary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_siren.metrics.rates.choices import dollars
from pytest_siren.text.words import printable, shown

if TYPE_CHECKING:
    from pytest_siren.evaluation.pricing import Prices
    from pytest_siren.metrics.rates.summary import SummaryRow, Totals
    from pytest_siren.session.config.processes import Executor
    from pytest_siren.session.items.job import Job
    from pytest_siren.sharing.state import SharedState


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


def facts_of(executor: Executor) -> Facts | None:
    """Return what all processes of a session came to; ``None`` when there was nothing to execute.

    To be called before the state that they share goes away.
    """
    # Only here: see ``notes``.
    from pytest_siren.sharing.state import Gauge

    state, total = executor.state, executor.total
    if state is None or not total:
        return None
    return Facts(
        total,
        cancelled=int(state.total(Gauge.CANCELLED)),
        deaths=executor.deaths,
        hung=int(state.total(Gauge.HUNG)),
        ended=int(state.total(Gauge.ENDED)),
        unavailable=executor.unavailable,
    )


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
        # Only here: workers wait for the controller, which is to load little before.
        from pytest_siren.text.words import printable

        lines += [printable(reason, _LONGEST) for reason in facts.unavailable]
    if pending:
        lines.append(f"finish them with: {command}")
    elif unreported:
        lines.append(f"show all runs with: {command}")
    elif facts.errors:
        runs = "the run" if facts.errors == 1 else f"the {facts.errors:,} runs"
        lines.append(f"try {runs} in error again with: {command}")
    return lines


def cost_of(row: SummaryRow | Totals, models: Sequence[str], room: int) -> list[str]:
    """Return what to say of the cost of ``row``, in pieces of at most ``room`` cells.

    Nothing is said when it cost nothing. ``models`` are those of the attempts without a cost.
    """
    if not row.unpriced:
        return [f"cost {dollars(row.cost)}"] if row.cost else []
    if _of_others(row):
        models = ["a judge or an attacker"]
    if row.unpriced == row.attempts:
        if not (row.input_tokens or row.output_tokens):
            return ["cost unknown (the answers contain no token counts)"]
        return [_named(f"cost unknown ({_lacking(row)} {{}})", models, room)]
    attempts = f"{row.unpriced:,} of {row.attempts:,} attempts"
    return [
        f"cost at least {dollars(row.cost)}",
        _named(f"{_lacking(row)} {attempts} ({{}})", models, room),
    ]


def _of_others(row: SummaryRow | Totals) -> bool:
    """Whether only the models of judges or attackers have no price."""
    others = getattr(row, "judge_unpriced", 0) + getattr(row, "attacker_unpriced", 0)
    return bool(others) and others >= row.unpriced


def _lacking(row: SummaryRow | Totals) -> str:
    if not row.unmeasured:
        return "no price for"
    return "usage incomplete for" if row.unmeasured == row.unpriced else "no price or usage for"


def _named(text: str, models: Sequence[str], room: int) -> str:
    others = f" and {len(models) - 1} more" if len(models) > 1 else ""
    longest = room - len(text.format(others))
    return text.format(printable(models[0], longest) + others)


def check_priced(
    jobs: Iterable[Job], prices: Prices, session_limit: Decimal | None, root: Path
) -> None:
    """Raise ``CostUnknownError`` when a limit of cost is set for a model without a price.

    Names each such model once. To be called in every process, before anything runs.
    """
    limited: dict[str, str] = {}
    for job in jobs:
        if session_limit is not None:
            limit = f"--siren-max-cost {session_limit}"
        elif job.limits.cost_limit is not None:
            limit = f"usage_limits.cost {job.limits.cost_limit} in {shown(job.spec.source, root)}"
        else:
            continue
        # What judges use counts against the session's limit, against a run's only if an attack asks
        # them.
        judges = [] if session_limit is None else list(job.judges.values())
        for model in (job.model, *job.attackers.values(), *judges):
            if not prices.known(model.id):
                limited.setdefault(model.id, limit)
    if limited:
        from pytest_siren.evaluation.pricing import CostUnknownError

        raise CostUnknownError(
            "\n".join(
                f"no price is known for the model {model!r}, so {limit} cannot be kept: "
                "give it a price with --siren-prices FILE, or drop the limit"
                for model, limit in limited.items()
            )
        )


def limit_reached(board: SharedState, limit: Decimal | None) -> str | None:
    """Return the sentence for the stop once the session has spent ``limit`` US dollars.

    It stops, too, when nobody can tell how much it has spent.
    """
    from pytest_siren.sharing.state import Gauge

    if limit is None:
        return None
    if (spent := round(board.total(Gauge.COST), 9)) >= limit:
        return f"--siren-max-cost {limit} reached: {dollars(spent)} spent"
    if (reason := board.why_unpriced) is not None:
        return (
            f"--siren-max-cost {limit} cannot be kept: {reason}, "
            f"so the cost of the session is unknown; {dollars(spent)} is known to be spent"
        )
    return None
