"""The table of runs: what rates, gates, comparisons and reports are computed from.

It is a pandas data frame with one row for each run that was tried, holding the attempt that counts:
the first that was scored, else the last. Cost and tokens are those of all attempts at the run.

| column | type | meaning |
| --- | --- | --- |
| ``dataset`` | category | name of the dataset, such as ``agentdojo-workspace`` |
| ``suite`` | category | suite within the dataset; missing where it has none |
| ``agent`` | category | type of the agent |
| ``model`` | category | short name of the model |
| ``model_kind`` | category | ``model``, ``replay`` or ``control`` |
| ``attack`` | category | name of the attack; missing for runs without one |
| ``job`` | category | path of the job's folder |
| ``identity`` | category | hash of the job's configuration |
| ``task_id`` | category | id of the benign task or couple |
| ``benign_task`` | category | id of the benign task |
| ``malicious_task`` | category | id of the malicious task; missing for runs without an attack |
| ``vectors`` | category | names of the planted injection vectors, sorted, joined by a space |
| ``run_index`` | int | 0-based |
| ``status`` | category | ``scored``, ``error`` or ``cancelled`` |
| ``benign_score`` | float | utility, 0..1; NaN when unknown or not scored |
| ``attack_score`` | float | the attacker's success, 0..1; NaN as above, and without an attack |
| ``exposed`` | float | 1 if the model was sent planted content, 0 if not; NaN when unknown, and \
without an attack |
| ``error_type`` | category | type of the exception; missing unless ``status`` is ``error`` |
| ``finish`` | category | how the last answer ended: ``complete``, ``length``, ``filtered``, \
``refused``, ``empty``, ``failed`` or ``incomplete``; missing where it is not known |
| ``attempts`` | int | tries at the run |
| ``input_tokens``, ``output_tokens`` | int | of all attempts |
| ``cost`` | float | US dollars of the attempts whose cost is known |
| ``unpriced`` | int | attempts whose cost is unknown |
| ``duration`` | float | seconds of the attempt that counts |
| ``decided`` | category | measures by which tasks of the job may have ended early, as \
``attack_pass@5``, sorted, joined by a space; missing where every planned run is taken |

Whoever counts scores asks ``metrics/measures.py:run_scores``, which knows what ``decided`` leaves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

CATEGORIES = (
    *("dataset", "suite", "agent", "model", "model_kind", "attack", "job", "identity"),
    *("task_id", "benign_task", "malicious_task", "vectors", "status", "error_type"),
    *("finish", "decided"),
)
INTEGERS = ("run_index", "attempts", "input_tokens", "output_tokens", "unpriced")
FLOATS = ("benign_score", "attack_score", "cost", "duration", "exposed")
OPTIONAL = ("decided", "exposed", "finish")
"""Columns that need not be given: nothing is known of them then."""
COLUMNS = (*CATEGORIES, *INTEGERS, *FLOATS)


def table(columns: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """Return the table of ``columns``, all of which must be there and of the same length.

    ``None`` stands for what is missing. Further columns are kept as they are. Raises ``KeyError``
    for a column that is not given and not in ``OPTIONAL``; without ``decided`` no task ended early.
    """
    nothing = [None] * len(columns["run_index"])
    columns = {**dict.fromkeys(OPTIONAL, nothing), **columns}
    made: dict[str, Any] = {}
    for name in CATEGORIES:
        made[name] = pd.Categorical(columns[name])
    for name in INTEGERS:
        made[name] = np.asarray(columns[name], dtype=np.int64)
    for name in FLOATS:
        made[name] = np.asarray(columns[name], dtype=np.float64)
    others = {name: values for name, values in columns.items() if name not in made}
    return pd.DataFrame({**made, **others})


def empty() -> pd.DataFrame:
    """Return the table of no runs."""
    return table({name: [] for name in COLUMNS})
