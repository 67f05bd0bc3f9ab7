"""Test functions that are marked ``siren`` become evaluations."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from pytest_siren.agents.function import FunctionAgentConfig, Marked
from pytest_siren.evaluation.tasks import BenignTask, MaliciousTask
from pytest_siren.session.collection.eval_file import Evaluation, SirenWarning
from pytest_siren.session.items.function_run import RUN, Variant
from pytest_siren.session.items.job import Job, RunItem, Workshop
from pytest_siren.spec.components import Selection
from pytest_siren.spec.jobs import jobs_of
from pytest_siren.spec.jobspec import JobSpec
from pytest_siren.spec.schema import FUNCTION_AGENT
from pytest_siren.text.words import shown
from pytest_siren.yamlpos.reader import Place

_OF_AGENT = ("model", "model_settings", "system_prompt", "timeout")
"""Arguments of the mark that are keys of ``agent.config``."""
_REFUSED = ("agent", "include", "defaults", "hydra")
"""Keys of an eval file that the mark does not take."""
_CONFLICTING = ("xfail",)
"""Marks that say what ``pass_when`` says."""


class EvalFunction(Evaluation):
    """A test function that is the agent of its evaluation."""

    function: Callable[..., Any]
    variants: Sequence[Variant]
    """The function with each set of parameters."""

    @classmethod
    def of(
        cls,
        parent: pytest.Collector,
        name: str,
        function: Callable[..., Any],
        found: Iterable[object],
    ) -> EvalFunction:
        """Make the evaluation, with all marks of ``function``.

        ``found`` are the items that pytest would make of it.
        """
        made: EvalFunction = cls.from_parent(parent, name=name)
        made.function = function
        variants = [Variant(one) for one in found if isinstance(one, pytest.Function)]
        made.variants = [one for one in variants if one.under_asyncio]
        for mark in getattr(function, "pytestmark", ()):
            made.add_marker(getattr(pytest.mark, mark.name)(*mark.args, **mark.kwargs))
        return made

    def collect(self) -> list[RunItem]:
        """Return the runs of the function; skip them as its marks ask, before any is executed."""
        self._skip()
        return super().collect()

    @property
    def place(self) -> Path:
        file = shown(self.path, self.config.rootpath)
        return file.with_name(f"{file.name}::{self.name}")

    def specs(self, workshop: Workshop, chosen: Selection) -> list[JobSpec]:
        """Return the jobs that ``chosen`` makes of the function's mark. Raises ``SpecError``."""
        self._check()
        if chosen.agents:
            given = ",".join(chosen.agents)
            message = f"{self.place}: --agent {given} has no effect: the function is the agent"
            self.warn(SirenWarning(message))
            chosen = replace(chosen, agents=())
        place = Place(shown(self.path, self.config.rootpath), self._line())
        return [
            _with_function(spec, self._marked(variant))
            for variant in self.variants
            for spec in jobs_of(
                self._values(variant), place, self.path, self.place, workshop.registry, chosen
            )
        ]

    def item(
        self, job: Job, benign: BenignTask, malicious: MaliciousTask | None, run_index: int
    ) -> RunItem:
        """Return a run of ``job``, with the fixtures of the function."""
        config = job.spec.agent.config
        assert isinstance(config, FunctionAgentConfig)
        assert config.marked is not None
        variant = config.marked.fixtures
        assert isinstance(variant, Variant)
        return variant.item(self, job, benign, malicious, run_index)

    def _marked(self, variant: Variant) -> Marked:
        failures = (AssertionError, pytest.fail.Exception)
        return Marked(self.function, self.path, failures, variant)

    def _line(self) -> int:
        code: CodeType = inspect.unwrap(self.function).__code__
        return code.co_firstlineno

    def _values(self, variant: Variant) -> dict[str, Any]:
        """Return the keys of an eval file that the mark gives."""
        values = dict(self._mark().kwargs)
        name = f"{self.name}[{variant.id}]" if variant.id else self.name
        target = f"{self.path.name}::{name}"
        config = {key: values.pop(key) for key in _OF_AGENT if key in values}
        agent = {"type": FUNCTION_AGENT, "config": {**config, "target": target}}
        return {"name": name, **values, "agent": agent}

    def _mark(self) -> pytest.Mark:
        first, *others = [mark for mark in self.own_markers if mark.name == "siren"]
        if others:
            raise self._problem("it is marked siren twice; write two functions")
        return first

    def _check(self) -> None:
        """Raise a collection error for a function that cannot be evaluated."""
        given = self._mark()
        if given.args:
            raise self._problem("arguments of the mark siren have names, such as dataset=...")
        for key in _REFUSED:
            if key in given.kwargs:
                raise self._problem(f"the mark siren takes no {key}{_instead(key)}")
        if RUN not in inspect.signature(self.function).parameters:
            raise self._problem(f"it has no parameter {RUN}: def {self.name}({RUN})")
        if missing := {name: None for one in self.variants for name in one.missing}:
            raise self._problem(f"it asks for {', '.join(missing)}, and there is no such fixture")
        for mark in self.own_markers:
            if mark.name in _CONFLICTING:
                raise self._problem(
                    f"the mark {mark.name} does not go with siren{_instead(mark.name)}"
                )
        if inspect.isasyncgenfunction(self.function):
            raise self._problem("it is a generator: return the answer")

    def _skip(self) -> None:
        for mark in self.iter_markers("skip"):
            _skipped(mark.kwargs.get("reason", mark.args[0] if mark.args else "skipped"))
        for mark in self.iter_markers("skipif"):
            conditions = [*mark.args, *filter(None, [mark.kwargs.get("condition")])]
            if any(isinstance(one, str) for one in conditions):
                raise self._problem("the condition of skipif has to be a value, not a text")
            if any(conditions):
                _skipped(mark.kwargs.get("reason", "skipif"))

    def _problem(self, message: str) -> pytest.Collector.CollectError:
        file = shown(self.path, self.config.rootpath)
        return self.CollectError(f"{file}:{self._line()}: {self.name}: {message}")


def _skipped(reason: object) -> None:
    raise pytest.skip.Exception(str(reason), allow_module_level=True)


def _instead(key: str) -> str:
    """Return what to do instead of giving ``key``."""
    hints: Mapping[str, str] = {
        "agent": ": the function is the agent, whose keys are " + ", ".join(_OF_AGENT),
        "xfail": ": give pass_when=..., which says when a run passes",
    }
    return hints.get(key, "")


def _with_function(spec: JobSpec, marked: Marked) -> JobSpec:
    config = spec.agent.config
    assert isinstance(config, FunctionAgentConfig)
    return replace(spec, agent=replace(spec.agent, config=config.bound(marked)))


def evaluations(
    collector: pytest.Collector, name: str, function: Any, found: Any
) -> Iterator[EvalFunction]:
    """Yield the evaluation that ``function`` of ``collector`` is.

    ``found`` are the items that pytest would make of it. Raises a collection error for a method,
    which has no object to be called with.
    """
    made = EvalFunction.of(collector, name, function, found or ())
    if not isinstance(collector, pytest.Module):
        raise made._problem("methods cannot be marked siren: write a function of the module")
    yield made
