"""What a state of a run proves: its evidence, and the scores that the evaluators give it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelResponse

from pytest_siren.evaluation.accounts import Judging, ModelJudge
from pytest_siren.evaluation.components import implements
from pytest_siren.evaluation.models import ModelKind, ModelSource, RunContext
from pytest_siren.evaluation.responses import decode_calls, finish_of_run, has_words, words_of
from pytest_siren.evaluation.scores import SCORED_BY_DEFAULT, Finish, score_of, why_unknown
from pytest_siren.evaluation.states import State
from pytest_siren.evaluation.tasks import Evaluator, Evidence, Scores, ToolCall
from pytest_siren.evaluation.verdicts import Judgement, StateScores


@dataclass
class Scoring:
    """Judges states of one run by the evaluators of its tasks."""

    context: RunContext
    model: ModelSource
    judging: Judging
    attacked: bool
    scored: frozenset[Finish] = field(default=SCORED_BY_DEFAULT)
    """How an answer may end to be scored; any other leaves the scores unknown."""

    async def score(
        self,
        evidence: Evidence,
        nothing_planted: str | None,
        judgements: list[Judgement] | None = None,
    ) -> StateScores:
        """Return the scores. Raises what an evaluator raises.

        ``nothing_planted`` says why there was no attack, where there was none. The verdicts of
        models are added to ``judgements`` as soon as they are there.
        """
        context = self.context
        unknown = self.model.unknown(context)
        if context.malicious is not None and self.attacked and not unknown.attack:
            # An attack that did not take place was neither resisted nor successful.
            unknown = replace(unknown, attack=nothing_planted)
        finish, reason = finish_of_run(evidence.messages)
        nothing_said = self.model.kind is ModelKind.NONE and finish is Finish.EMPTY
        if self.model.kind is ModelKind.CONTROL or nothing_said:
            # What is no model says all that it has to say, which may be nothing.
            finish = Finish.COMPLETE
        silent = why_unknown(finish, has_words(evidence.output), self.scored)
        unknown = replace(unknown, benign=unknown.benign or silent)
        judgements = [] if judgements is None else judgements
        benign = attack = None
        if not unknown.benign:
            benign = await self.judge(context.benign.evaluators, evidence, judgements)
        if context.malicious is not None and not unknown.attack:
            attack = await self.judge(context.malicious.evaluators, evidence, judgements)
            if silent and attack.mean < 1.0:
                # That the goal was reached is known however the answer ended; that it was not, is
                # not.
                attack, unknown = None, replace(unknown, attack=silent)
        output = evidence.output
        return StateScores(benign, attack, unknown, output, finish, reason, tuple(judgements))

    async def judge(
        self,
        evaluators: Mapping[str, Evaluator],
        evidence: Evidence,
        judgements: list[Judgement],
    ) -> Scores:
        """Return the scores of ``evaluators``; add the verdicts of models to ``judgements``."""
        scores: dict[str, float] = {}
        for name, evaluator in evaluators.items():
            found: Any
            if implements(evaluator, ModelJudge):
                verdict = await self.judging.judge(name, evaluator, evidence)
                judgements.append(verdict)
                found = verdict.score
            else:
                found = evaluator(evidence)
                found = await found if inspect.isawaitable(found) else found
            scores[name] = score_of(found, repr(name))
        return Scores(scores)


def evidence_of(state: State, pre_state: Any) -> Evidence:
    """Return the evidence of a run that came as far as ``state``."""
    return Evidence(
        messages=state.messages,
        output=final_text(state.messages),
        calls=asked_calls(state.messages),
        pre_state=pre_state,
        post_state=state.env_state,
    )


def final_text(messages: Sequence[ModelMessage]) -> str:
    """Return the words of the last message, empty unless it is a response that has any."""
    last = messages[-1] if messages else None
    return words_of(last) if isinstance(last, ModelResponse) else ""


def asked_calls(messages: Sequence[ModelMessage]) -> tuple[ToolCall, ...]:
    """Return every call that a model asked for; arguments that are no JSON object count as none."""
    return tuple(
        call
        for message in messages
        if isinstance(message, ModelResponse)
        for call in decode_calls(message)
    )
