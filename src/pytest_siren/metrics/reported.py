"""The table of runs of a session, from what was reported of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pytest_siren.metrics.attempts import Attempts, folded, last
from pytest_siren.metrics.codes import Codes, task_columns
from pytest_siren.metrics.runs import empty, table

if TYPE_CHECKING:
    from pytest_siren.payloads import RunReport

_TEXTS = ("dataset", "suite", "agent", "model", "model_kind", "attack", "job", "identity")


def runs_of(reports: Iterable[RunReport], decided: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return the table of ``metrics/runs.py`` for the runs of ``reports``.

    ``decided`` holds what that column says, by identity of the job. Of several reports of a run the
    last attempt counts, as in the summary of a session.
    """
    told = sorted(reports, key=lambda report: report.attempt)
    if not told:
        return empty()
    keys = dict.fromkeys((one.job, one.task_id, one.run_index) for one in told)
    run = Codes[tuple[str, str, int]]()
    number = run.of([(one.job, one.task_id, one.run_index) for one in told])
    sums = folded(_attempts(told, number), len(keys))
    chosen = [told[place] for place in last(number, len(keys))]
    columns: dict[str, Any] = {name: _texts(chosen, name) for name in _TEXTS}
    tasks = Codes[str]()
    codes = tasks.of([one.task_id for one in chosen])
    attacked = np.asarray([one.attack is not None for one in chosen], dtype=np.bool_)
    columns |= task_columns(codes, tasks.values, attacked)
    columns |= vars(sums)
    columns["decided"] = [(decided or {}).get(one.identity) for one in chosen]
    columns["vectors"] = [" ".join(one.vectors) if one.vectors else None for one in chosen]
    columns["run_index"] = [one.run_index for one in chosen]
    columns["status"] = [one.status for one in chosen]
    columns["benign_score"] = [one.benign_score for one in chosen]
    columns["attack_score"] = [one.attack_score for one in chosen]
    columns["error_type"] = [one.error_type if one.status == "error" else None for one in chosen]
    columns["exposed"] = [one.exposed for one in chosen]
    columns["finish"] = [one.finish for one in chosen]
    columns["duration"] = [one.duration for one in chosen]
    return table(columns)


def _attempts(told: list[RunReport], run: Any) -> Attempts:
    return Attempts(
        run=run,
        tries=np.asarray([1 + one.other_attempts for one in told]),
        input_tokens=np.asarray([one.input_tokens + one.other_input_tokens for one in told]),
        output_tokens=np.asarray([one.output_tokens + one.other_output_tokens for one in told]),
        cost=np.asarray([(one.cost or 0.0) + one.other_cost for one in told]),
        unpriced=np.asarray([(one.cost is None) + one.other_unpriced for one in told]),
    )


def _texts(chosen: list[RunReport], name: str) -> Any:
    codes = Codes[str]()
    return codes.column(codes.of([getattr(one, name) for one in chosen]))
