"""What a dataset offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pytest_siren.evaluation.environment import Environment
from pytest_siren.evaluation.tasks import BenignTask, Couple, MaliciousTask


class Dataset(Protocol):
    """Tasks, and the environment they are worked on in."""

    name: str
    """Name in tables, job names and records, such as ``agentdojo-workspace``."""
    suite: str | None
    """The part of the benchmark that these tasks are, such as ``workspace``."""
    user_name: str
    """Name of the agent's user, for attacks that pose as that user."""
    benign_tasks: Sequence[BenignTask]
    malicious_tasks: Sequence[MaliciousTask]
    couples: Sequence[Couple]
    environment: Environment
