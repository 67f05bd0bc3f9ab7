"""What a state of a run proves: its evidence, and the scores that the evaluators give it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from numbers import Real
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelResponse

from pytest_siren.evaluation.accounts import Judging, ModelJudge
from pytest_siren.evaluation.components import implements
from pytest_siren.evaluation.models import ModelKind, ModelSource, RunContext
from pytest_siren.evaluation.responses import decode_calls, finish_of_run, has_words, words_of
from pytest_siren.evaluation.scores import SCORED_BY_DEFAULT, Finish
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


def scored(changes: Mapping[str, str]) -> frozenset[Finish]:
    """Return the ways to end that are scored, with ``changes`` of what an eval file says."""
    kept = {finish for finish in SCORED_BY_DEFAULT if changes.get(finish) != "unknown"}
    return frozenset(kept | {Finish(name) for name, what in changes.items() if what == "score"})


_REASONS = {
    Finish.LENGTH: "the answer was cut off (length)",
    Finish.FILTERED: "the answer was filtered",
    Finish.REFUSED: "the refusal has no words",
    Finish.EMPTY: "the answer is empty",
    Finish.FAILED: "the answer failed",
    Finish.INCOMPLETE: "the answer is incomplete",
}


def why_unknown(finish: Finish, has_words: bool, scored: frozenset[Finish]) -> str | None:
    """Return why an answer that ended so proves nothing; ``None`` if it is scored.

    A refusal without words is an empty answer, too.
    """
    silent = finish is Finish.REFUSED and not has_words and Finish.EMPTY not in scored
    if finish in scored and not silent:
        return None
    if finish is Finish.REFUSED and has_words:
        return "the answer was refused"
    return _REASONS.get(finish, f"the answer is {finish}")


def score_of(value: Any, evaluator: str) -> float:
    """Return ``value`` as a score from 0.0 to 1.0.

    Numbers of any library and bools are scores; numpy's bool and arrays without dimensions are
    taken for what they hold. ``evaluator`` is how messages name what returned ``value``. Raises
    ``TypeError`` for what is no number, texts included, and ``ValueError`` for NaN and for numbers
    outside of 0.0 to 1.0.
    """
    number: Any = _scalar(value)
    if not isinstance(number, Real | Decimal):
        raise TypeError(
            f"evaluator {evaluator} returned {_type_name(value)}, "
            "expected a number from 0.0 to 1.0 or a bool"
        )
    try:
        within = _within(number)
        score = float(number)
    except (ArithmeticError, ValueError):
        # A Decimal's signalling NaN, or an integer that no float can hold.
        within, score = False, float("nan")
    if not (within and 0.0 <= score <= 1.0):
        shown = str(number) if isinstance(number, float | Decimal) else _shown(number)
        raise ValueError(f"evaluator {evaluator} returned {shown}, which is not within 0..1")
    return score


def _within(number: Any) -> bool:
    return bool(0 <= number <= 1)


def _scalar(value: Any) -> Any:
    """Return what a number of numpy's, torch's or the like holds, which need not be loaded."""
    if isinstance(value, Real | Decimal) or getattr(value, "shape", None) != ():
        return value
    item = getattr(value, "item", None)
    return item() if callable(item) else value


def _shown(number: Any) -> str:
    try:
        return str(float(number))
    except OverflowError:
        return "a number that no float can hold"


def _type_name(value: Any) -> str:
    kind = type(value)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


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
