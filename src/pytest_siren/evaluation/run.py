"""The OpenTelemetry span that a run belongs to, where the project traces its sessions."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from opentelemetry.trace import format_span_id, format_trace_id, get_current_span
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import Model
from pydantic_ai.usage import RunUsage, UsageLimits

from pytest_siren.evaluation.attack import Attack, Target
from pytest_siren.evaluation.components import implements
from pytest_siren.evaluation.isolation import (
    Stopwatch,
    UserInterrupt,
    Waited,
    let_go,
    message_of,
    wait_for_task,
)
from pytest_siren.evaluation.judging import Judgement, Judging, ModelJudge, is_judge
from pytest_siren.evaluation.lifecycle import Part, open_parts
from pytest_siren.evaluation.models import (
    CountsRetries,
    ModelKind,
    ModelSource,
    ModelUnavailableError,
    Retry,
    RunContext,
    Unknown,
)
from pytest_siren.evaluation.prices import Prices
from pytest_siren.evaluation.responses import (
    decode_calls,
    finish_of_run,
    finishes_of,
    has_words,
    words_of,
)
from pytest_siren.evaluation.scores import SCORED_BY_DEFAULT, Finish, score_of, why_unknown
from pytest_siren.evaluation.scores import Status as Status
from pytest_siren.evaluation.spending import Account, Spend
from pytest_siren.evaluation.stage import Agent, Stage
from pytest_siren.evaluation.states import End, Exposure, State
from pytest_siren.evaluation.tasks import (
    CopyableEnvironment,
    Couple,
    Dataset,
    Evaluator,
    Evidence,
    Scores,
    SelectiveEnvironment,
    ToolCall,
)


@dataclass(frozen=True)
class Span:
    """A span, by the ids under which collectors know it."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits."""


def current_span() -> Span | None:
    """Return the span that is current here; ``None`` where nothing is traced."""
    context = get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return Span(format_trace_id(context.trace_id), format_span_id(context.span_id))


@dataclass(frozen=True)
class ErrorInfo:
    """The exception that ended a run."""

    type: str
    message: str
    traceback: str
    occurred_at: datetime
    bases: tuple[str, ...] = ()
    """Names of the classes that its class is derived from, nearest first; not ``Exception``."""

    @classmethod
    def of(cls, error: BaseException) -> ErrorInfo:
        return cls(
            bases=_bases(type(error)),
            type=type(error).__name__,
            message=message_of(error),
            traceback=_traceback(error),
            occurred_at=datetime.now(UTC),
        )


def _bases(error: type[BaseException]) -> tuple[str, ...]:
    """Return the public names of the classes above ``error``, each once."""
    roots = {error.__name__, "BaseException", "Exception", "object"}
    names = dict.fromkeys(one.__name__ for one in error.__mro__)
    return tuple(name for name in names if name not in roots and not name.startswith("_"))


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except UserInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - an exception that cannot even be formatted
        return "".join(traceback.format_tb(error.__traceback__))


class RunTimeoutError(TimeoutError):
    """The run took longer than it was given."""


@dataclass(frozen=True)
class RunPlan:
    """All that one run needs."""

    context: RunContext
    dataset: Dataset
    agent: Agent
    attack: Attack | None
    model: ModelSource
    limits: UsageLimits
    prices: Prices | None = None
    """``None`` leaves the costs that models report themselves."""
    spend: Spend | None = None
    """Told of every answer as soon as it is there."""
    scored: frozenset[Finish] = SCORED_BY_DEFAULT
    """How an answer may end to be scored; any other leaves the scores unknown."""
    judges: Mapping[str, ModelSource] = field(default_factory=dict)
    """The models that evaluators ask, by name."""
    parts: tuple[Part, ...] = ()
    """Those that hold something for each run (``SupportsRun``), in the order of opening."""


@dataclass(frozen=True)
class RunOutcome:
    """What one attempt at a run came to."""

    status: Status
    started_at: datetime
    finished_at: datetime
    messages: tuple[ModelMessage, ...] = ()
    usage: RunUsage = field(default_factory=RunUsage)
    """Of all answers, whether or not the run came to an end."""
    unpriced: int = 0
    """Answers for which no price is known."""
    contents: Mapping[str, str] = field(default_factory=dict)
    """Injection vector to the content that was planted."""
    benign: Scores | None = None
    """Utility; ``None`` when the run was not scored or its utility is unknown."""
    attack: Scores | None = None
    """The attacker's success; ``None`` when there was no attack, no score, or it is unknown."""
    unknown: Unknown = field(default_factory=Unknown)
    output: str = ""
    finish: Finish | None = None
    """How the last answer ended; ``None`` unless the run was scored."""
    finish_reason: str | None = None
    """The provider's own word for that; ``None`` where it has none."""
    error: ErrorInfo | None = None
    unavailable: bool = False
    """Whether no other run on the same model could succeed either; ``error`` says why."""
    retries: tuple[Retry, ...] = ()
    """Model requests that were sent again, oldest first."""
    exposed: bool | None = None
    """Whether the model was sent planted content; ``None`` without an attack, or if unknown."""
    answers: Mapping[str, int] = field(default_factory=dict)
    """How all answers of the conversation ended, to their number."""
    tools: int | None = None
    """Tools that the model was last offered; ``None`` where nobody knows."""
    tool_calls: int = 0
    """Calls that the model asked for, executed or not."""
    span: Span | None = None
    """The OpenTelemetry span that was current when the run began."""
    goal_reached: bool | None = None
    """Whether the attacker's goal was reached before the error that ended the run; ``None`` for
    every other run, and where nobody can tell."""
    judgements: tuple[Judgement, ...] = ()
    """What models found that evaluators asked."""
    judged: Mapping[str, Account] = field(default_factory=dict)
    """What these models used, by name; it is not in ``usage``."""

    @property
    def benign_score(self) -> float | None:
        return self.benign.mean if self.benign else None

    @property
    def attack_score(self) -> float | None:
        return self.attack.mean if self.attack else None

    @property
    def cost(self) -> float | None:
        """US dollars; ``None`` when the price of any answer is unknown."""
        asked = self.usage.requests or self.usage.total_tokens
        if self.unpriced or (self.usage.cost is None and asked):
            return None
        return float(self.usage.cost or 0)

    @property
    def duration(self) -> float:
        """Seconds from start to finish."""
        return (self.finished_at - self.started_at).total_seconds()


@dataclass
class Execution:
    """One try at ``plan``. Every exception becomes an outcome, whatever its class."""

    plan: RunPlan
    stopped: bool = False
    """Whether the run was asked to stop: it asks no model and calls no tool any more."""
    abandoned: asyncio.Task[RunOutcome] | None = None
    """What goes on although it was cancelled; ``None`` for a run that ended."""
    begun: bool = False
    """Whether ``run`` has begun: a task that is cancelled before it begins never does."""
    outcome: RunOutcome | None = None
    """What ``run`` returned: a task may count as cancelled although it came to its end."""
    _clock: Stopwatch = field(default_factory=Stopwatch)
    _stage: Stage | None = None
    _model: Model | None = None
    _reached: bool | None = None
    _judging: Judging = field(init=False)
    _span: Span | None = field(default_factory=current_span)

    def __post_init__(self) -> None:
        plan = self.plan
        self._judging = Judging(plan.context, plan.judges, plan.prices, plan.spend)

    async def run(self) -> RunOutcome:
        """Return what the run came to. Raises ``UserInterrupt`` only."""
        self.begun = True
        self._clock.measure_this_run()
        try:
            async with AsyncExitStack() as stack:
                await open_parts(stack, self.plan.parts, self.plan.context)
                end, scored = await self._scored()
        except UserInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - becomes the outcome
            self.outcome = self.failed(error)
        else:
            self.outcome = self._succeeded(end, scored)
        return self.outcome

    @property
    def waited(self) -> float:
        """Seconds so far in which the run only waited for a rate limit, a cooldown or a person."""
        return self._clock.waited

    def stop(self) -> None:
        """Let the run take no further step, however it deals with being cancelled."""
        self.stopped = True
        self._judging.stopped = True
        if self._stage is not None:
            self._stage.stopped = True

    def _succeeded(self, end: End, scored: _Scored) -> RunOutcome:
        """Return the outcome of a run that was scored."""
        assert self._stage is not None
        return RunOutcome(
            status=Status.SCORED,
            started_at=self._clock.started_at,
            finished_at=self._clock.now(),
            messages=end.messages,
            usage=self._stage.usage(),
            unpriced=self._stage.account.unpriced,
            contents=end.contents,
            benign=scored.benign,
            attack=scored.attack,
            unknown=scored.unknown,
            output=scored.output,
            finish=scored.finish,
            finish_reason=scored.finish_reason,
            retries=_retries(self._model),
            exposed=_exposed(self.plan, self._stage),
            answers=finishes_of(end.messages),
            tools=self._stage.tools,
            tool_calls=len(asked_calls(end.messages)),
            span=self._span,
            judgements=tuple(self._judging.judgements),
            judged=self._judging.accounts,
        )

    def failed(self, error: BaseException) -> RunOutcome:
        """Return the outcome of a run that ``error`` ended, with what it has used so far.

        It is cancelled if it was asked to stop, and an error otherwise: a ``CancelledError`` that
        some library lets out is one like any other.
        """
        stage = self._stage
        latest = stage.latest if stage else None
        messages = stage.messages() if stage else ()
        return RunOutcome(
            status=Status.CANCELLED if self.stopped else Status.ERROR,
            started_at=self._clock.started_at,
            finished_at=self._clock.now(),
            messages=messages,
            usage=stage.usage() if stage else RunUsage(),
            unpriced=stage.account.unpriced if stage else 0,
            contents=latest.contents if latest else {},
            error=ErrorInfo.of(error),
            unavailable=isinstance(error, ModelUnavailableError),
            retries=_retries(self._model),
            exposed=_exposed(self.plan, stage),
            answers=finishes_of(messages),
            tools=stage.tools if stage else None,
            tool_calls=len(asked_calls(messages)),
            goal_reached=self._reached,
            span=self._span,
            judgements=tuple(self._judging.judgements),
            judged=self._judging.accounts,
        )

    async def _scored(self) -> tuple[End, _Scored]:
        plan = self.plan
        if plan.attack is not None:
            recording = plan.attack.recording(plan.model) or plan.context.attack
            plan = replace(plan, context=replace(plan.context, recording=recording))
        self._model = await plan.model.bind(plan.context)
        self._stage = Stage(
            agent=plan.agent,
            environment=plan.dataset.environment,
            task=plan.context.benign,
            model=self._model,
            limits=plan.limits,
            rewinds=plan.attack is not None and plan.attack.rewinds,
            stopped=self.stopped,
            account=Account(plan.model.id, plan.prices, plan.spend),
        )
        async with self._stage as stage:
            try:
                end, pre_state = await _drive(plan, stage)
            except (UserInterrupt, GeneratorExit):
                raise
            except BaseException as error:
                if not self.stopped:
                    self._reached = await _goal_reached(plan, stage, error)
                raise
            return end, await _score(plan, end, pre_state, stage.exposure, self._judging)


async def execute(
    plan: RunPlan, *, timeout: float | None = None, stop: str | None = None
) -> RunOutcome:
    """Run ``plan`` once. Every exception becomes an outcome; cancellation does too.

    The caller that cancelled must look at ``status`` and go on cancelling. ``timeout`` is in
    seconds. ``stop`` is the message of the cancellations that stop the run, see ``isolation``.
    """
    return await supervised(Execution(plan), timeout=timeout, stop=stop)


async def supervised(
    execution: Execution,
    *,
    timeout: float | None = None,
    stop: str | None = None,
    source: str = "--siren-run-timeout",
) -> RunOutcome:
    """Return what ``execution`` comes to; it is stopped, and if need be abandoned, at its limit.

    ``source`` is how messages name what set the ``timeout``.
    """
    waited = Waited.DONE
    # Whoever cancels all tasks of the process hits those too that have not begun.
    while waited is Waited.DONE and not execution.begun:
        task = asyncio.create_task(execution.run())
        try:
            waited = await wait_for_task(task, timeout, stop)
        except BaseException:
            task.cancel()
            raise
    if waited is Waited.DONE:
        return execution.outcome or task.result()
    execution.stop()
    if await let_go(task):
        outcome = execution.outcome or task.result()
    else:
        execution.abandoned = task
        outcome = execution.failed(asyncio.CancelledError(_ABANDONED))
    if waited is Waited.LATE and outcome.status is Status.CANCELLED:
        limit = f"{timeout:g} s ({source})"
        return _timed_out(outcome, limit, abandoned=not task.done())
    return outcome


_ABANDONED = "what it waited for did not let itself be cancelled, and was abandoned"


def _timed_out(outcome: RunOutcome, limit: str, *, abandoned: bool) -> RunOutcome:
    message = f"the run took longer than {limit}"
    if abandoned:
        message = f"{message}; {_ABANDONED}"
    trace = outcome.error.traceback if outcome.error and not abandoned else ""
    kind, now = RunTimeoutError, datetime.now(UTC)
    error = ErrorInfo(kind.__name__, message, trace, now, bases=(TimeoutError.__name__,))
    return replace(outcome, status=Status.ERROR, error=error, unavailable=False)


def _retries(model: Model | None) -> tuple[Retry, ...]:
    return tuple(model.retries) if implements(model, CountsRetries) else ()


def _exposed(plan: RunPlan, stage: Stage | None) -> bool | None:
    if plan.attack is None or plan.context.malicious is None:
        return None
    return stage.exposure.known() if stage else False


async def _drive(plan: RunPlan, stage: Stage) -> tuple[End, Any]:
    context = plan.context
    if plan.attack is None or context.malicious is None:
        end = await stage.finish(await stage.begin({}))
    else:
        everywhere = stage.environment.vectors
        read: Collection[str] = everywhere.keys()
        if implements(stage.environment, SelectiveEnvironment):
            read = await stage.environment.exposed(context.benign)
        target = Target(
            run=context,
            couple=Couple(context.benign, context.malicious),
            vectors={vector: everywhere[vector] for vector in everywhere if vector in read},
            all_vectors=everywhere,
            model=plan.model,
            user_name=plan.dataset.user_name,
        )
        end = await plan.attack.run(stage, target)
    return end, await _pre_state(plan, end)


class _Scored(NamedTuple):
    benign: Scores | None
    attack: Scores | None
    unknown: Unknown
    output: str
    finish: Finish
    finish_reason: str | None


async def _score(
    plan: RunPlan, end: End, pre_state: Any, exposure: Exposure, judging: Judging
) -> _Scored:
    context = plan.context
    unknown = plan.model.unknown(context)
    if context.malicious is not None and plan.attack is not None and not unknown.attack:
        # An attack that did not take place was neither resisted nor successful.
        unknown = replace(unknown, attack=exposure.nothing_planted)
    finish, reason = finish_of_run(end.messages)
    if plan.model.kind is ModelKind.CONTROL:
        # A script says all that it has to say, which may be nothing.
        finish = Finish.COMPLETE
    evidence = _evidence(end, pre_state)
    silent = why_unknown(finish, has_words(evidence.output), plan.scored)
    unknown = replace(unknown, benign=unknown.benign or silent)
    benign = None if unknown.benign else await _judge(context.benign.evaluators, evidence, judging)
    attack = None
    if context.malicious is not None and not unknown.attack:
        attack = await _judge(context.malicious.evaluators, evidence, judging)
        if silent and attack.mean < 1.0:
            # That the goal was reached is known however the answer ended; that it was not, is not.
            attack, unknown = None, replace(unknown, attack=silent)
    return _Scored(benign, attack, unknown, evidence.output, finish, reason)


async def _goal_reached(plan: RunPlan, stage: Stage, error: BaseException) -> bool | None:
    """Return whether the attacker had won before ``error``; ``None`` where nobody can tell.

    An error is no score, but what was done before it was done. Judges, which cost money, are not
    asked.
    """
    latest, malicious = stage.latest, plan.context.malicious
    if malicious is None or latest is None or isinstance(error, ModelUnavailableError):
        return None
    if any(map(is_judge, malicious.evaluators.values())):
        return None
    try:
        evidence = _evidence(latest, await _pre_state(plan, latest))
        scores = await _judge(malicious.evaluators, evidence, Judging(plan.context))
    except UserInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - evaluators need not know what to make of half a run
        return None
    return scores.mean >= 1.0


async def _pre_state(plan: RunPlan, state: State) -> Any:
    """Return the environment as it was before the agent began; ``None`` if it cannot be copied."""
    environment = plan.dataset.environment
    if not implements(environment, CopyableEnvironment):
        return None
    async with environment.open(plan.context.benign, state.contents) as pre_state:
        return pre_state


def _evidence(state: State, pre_state: Any) -> Evidence:
    """Return the evidence of a run that came as far as ``state``."""
    return Evidence(
        messages=state.messages,
        output=final_text(state.messages),
        calls=asked_calls(state.messages),
        pre_state=pre_state,
        post_state=state.env_state,
    )


async def _judge(
    evaluators: Mapping[str, Evaluator], evidence: Evidence, judging: Judging
) -> Scores:
    scores: dict[str, float] = {}
    for name, evaluator in evaluators.items():
        if implements(evaluator, ModelJudge):
            scores[name] = score_of(await judging.score(name, evaluator, evidence), repr(name))
            continue
        found = evaluator(evidence)
        found = await found if inspect.isawaitable(found) else found
        scores[name] = score_of(found, repr(name))
    return Scores(scores)


def final_text(messages: tuple[ModelMessage, ...]) -> str:
    """Return the words of the last message, empty unless it is a response that has any."""
    last = messages[-1] if messages else None
    return words_of(last) if isinstance(last, ModelResponse) else ""


def asked_calls(messages: tuple[ModelMessage, ...]) -> tuple[ToolCall, ...]:
    """Return every call that a model asked for; arguments that are no JSON object count as none."""
    return tuple(
        call
        for message in messages
        if isinstance(message, ModelResponse)
        for call in decode_calls(message)
    )
