"""What the evaluators found in a state of a run."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_siren.evaluation.models import Unknown
from pytest_siren.evaluation.scores import Finish
from pytest_siren.evaluation.tasks import Scores


@dataclass(frozen=True)
class Judgement:
    """A verdict of a run, as it is recorded."""

    evaluator: str
    model: str
    score: float
    reason: str


@dataclass(frozen=True)
class StateScores:
    """The scores of one state of a run."""

    benign: Scores | None
    """Utility; ``None`` if it is unknown."""
    attack: Scores | None
    """The attacker's success; ``None`` without a malicious task, or if it is unknown."""
    unknown: Unknown
    """Why a score is unknown."""
    output: str
    """Text of the model's last message; empty when it had none."""
    finish: Finish
    """How the last answer ended."""
    finish_reason: str | None
    """The provider's own word for that; ``None`` where it has none."""
    judgements: tuple[Judgement, ...] = ()
    """The verdicts of the evaluators that asked a model."""

    @property
    def benign_score(self) -> float | None:
        """Utility, 0..1."""
        return self.benign.mean if self.benign else None

    @property
    def attack_score(self) -> float | None:
        """The attacker's success, 0..1."""
        return self.attack.mean if self.attack else None
