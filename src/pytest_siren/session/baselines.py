"""What ``--baseline`` names. Standard library only until it names something."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from pytest_siren.session.options import chosen_jobs_dir

if TYPE_CHECKING:
    from pytest_siren.metrics.gates import Baseline
    from pytest_siren.spec.gates import Gate


def baseline(config: pytest.Config, gates: Sequence[Gate]) -> Baseline | None:
    """Return what ``--baseline`` names. Raises ``pytest.UsageError``.

    ``gates`` are those of the command line and the ini file.
    """
    target: str | None = config.getoption("siren_baseline")
    if target is None:
        for gate in gates:
            if gate.needs_baseline:
                problem = f"{gate.measure} needs --baseline JOB or FILE to compare with"
                raise pytest.UsageError(f"{gate.source} {gate.text!r}: {problem}")
        return None
    from pytest_siren.jobs.baseline import load_baseline
    from pytest_siren.jobs.baselinefile import BaselineError
    from pytest_siren.metrics.gates import Baseline

    jobs_dir = chosen_jobs_dir(config) or config.rootpath / "jobs"
    try:
        runs = load_baseline(target, jobs_dir, config.invocation_params.dir)
    except BaselineError as error:
        raise pytest.UsageError(f"--baseline: {error}") from None
    return Baseline(runs, target, subset=_some_only(config))


def _some_only(config: pytest.Config) -> bool:
    """Whether the user has chosen some of the tasks."""
    option = config.getoption
    chosen = (option("keyword"), option("markexpr"), option("deselect"), option("siren_task_ids"))
    return any(chosen) or any("::" in arg for arg in config.args)
