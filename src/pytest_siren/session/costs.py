"""Money in words: what a job cost, and what a limit of cost refuses or stops."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_siren.metrics.money import dollars
from pytest_siren.session.paths import shown
from pytest_siren.session.text import printable

if TYPE_CHECKING:
    from pytest_siren.evaluation.prices import Prices
    from pytest_siren.metrics.summary import SummaryRow, Totals
    from pytest_siren.session.job import Job
    from pytest_siren.sharing.board import Board


def cost_of(row: SummaryRow | Totals, models: Sequence[str], room: int) -> list[str]:
    """Return what to say of the cost of ``row``, in pieces of at most ``room`` cells.

    Nothing is said when it cost nothing. ``models`` are those of the attempts without a cost.
    """
    if not row.unpriced:
        return [f"cost {dollars(row.cost)}"] if row.cost else []
    if row.unpriced == row.attempts:
        if not (row.input_tokens or row.output_tokens):
            return ["cost unknown (the answers contain no token counts)"]
        return [_named(f"cost unknown ({_lacking(row)} {{}})", models, room)]
    attempts = f"{row.unpriced:,} of {row.attempts:,} attempts"
    return [
        f"cost at least {dollars(row.cost)}",
        _named(f"{_lacking(row)} {attempts} ({{}})", models, room),
    ]


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
        # What judges use counts against the session's limit, not against a run's.
        judges = [] if session_limit is None else list(job.judges.values())
        for model in (job.model, *judges):
            if not prices.known(model.id):
                limited.setdefault(model.id, limit)
    if limited:
        from pytest_siren.evaluation.prices import CostUnknownError

        raise CostUnknownError(
            "\n".join(
                f"no price is known for the model {model!r}, so {limit} cannot be kept: "
                "give it a price with --siren-prices FILE, or drop the limit"
                for model, limit in limited.items()
            )
        )


def limit_reached(board: Board, limit: Decimal | None) -> str | None:
    """Return the sentence for the stop once the session has spent ``limit`` US dollars.

    It stops, too, when nobody can tell how much it has spent.
    """
    from pytest_siren.sharing.board import Gauge

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
