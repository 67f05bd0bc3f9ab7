"""The configuration of a job as plain data, as the job's record keeps it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from pytest_siren.evaluation.components import Kind, Registry
from pytest_siren.spec.components import (
    Components,
    Selection,
    apply_to_attack,
    apply_to_file,
    conflicts,
    with_options,
)
from pytest_siren.spec.documents import Tree, load_tree
from pytest_siren.spec.envelope import Envelope, check_envelope, missing, with_agent
from pytest_siren.spec.errors import SpecError
from pytest_siren.spec.jobspec import AttackSpec, ComponentSpec, JobSpec
from pytest_siren.spec.overrides import Cell, Override, cells, parse_overrides, swept
from pytest_siren.spec.presets import Definition, Presets, Sections, file_attacks
from pytest_siren.spec.schema import (
    EvalFile,
    FinishSection,
    LoggingSection,
    OutputSection,
    SlurmSection,
    TelemetrySection,
    UsageLimitsSection,
)
from pytest_siren.yamlpos.nodes import Node, Place, branch
from pytest_siren.yamlpos.problems import Problem


def usage_limits(file: EvalFile) -> dict[str, Any]:
    """Return keyword arguments for ``pydantic_ai.usage.UsageLimits``."""
    if file.usage_limits is None:
        return {"request_limit": None}
    default = UsageLimitsSection().request_limit
    limits = {"request_limit": default, **file.usage_limits.model_dump(exclude_unset=True)}
    if "cost" in limits:
        limits["cost_limit"] = limits.pop("cost")
    return limits


def finish_changes(file: EvalFile) -> dict[str, str]:
    """Return what the file says of the ways in which answers end, where it is not the default."""
    default = FinishSection().model_dump()
    given = {} if file.finish is None else file.finish.model_dump()
    return {name: what for name, what in given.items() if what != default[name]}


def snapshot(job: JobSpec, file: EvalFile, shown: Path) -> dict[str, Any]:
    """Return JSON-able data with every key of prompt-siren's ``ExperimentConfig``, and ours.

    A model of prompt-siren's can be built from it: what it does not know, it ignores.
    """
    sandbox = file.sandbox_manager
    assert not isinstance(sandbox, str)  # a preset, which has been read by now
    limits = UsageLimitsSection.model_construct(**job.usage_limits)
    slurm = (file.slurm or SlurmSection()).model_dump(mode="json")
    if slurm["partition"] is None:
        del slurm["partition"]  # prompt-siren's schema wants a string, or its own default
    return {
        "name": job.name or shown.stem,
        "dataset": _section(job.dataset),
        "agent": _section(job.agent),
        "attack": _section(job.attack) if job.attack else None,
        "sandbox_manager": sandbox and {"type": sandbox.type, "config": dict(sandbox.config or {})},
        "execution": {"concurrency": job.concurrency, "n_runs_per_task": job.runs},
        "task_ids": None if job.task_ids is None else list(job.task_ids),
        "output": (file.output or OutputSection()).model_dump(mode="json"),
        "telemetry": (file.telemetry or TelemetrySection()).model_dump(mode="json"),
        "logging": (file.logging or LoggingSection()).model_dump(mode="json"),
        "usage_limits": limits.model_dump(mode="json", exclude_unset=True),
        "slurm": slurm,
        "eval_file": shown.as_posix(),
        "attack_name": job.attack.name if job.attack else None,
        "runs": job.runs,
        "pass_when": {"benign": job.pass_when.benign, "attack": job.pass_when.attack},
        **({"finish": dict(job.finish)} if job.finish else {}),
        **({"malicious_as_benign": True} if job.malicious_as_benign else {}),
        "tags": list(job.tags),
        "gates": list(job.gates),
        "cell": dict(job.cell),
    }


def _section(component: ComponentSpec) -> dict[str, Any]:
    return {"type": component.type, "config": dict(component.raw)}


def load_jobs(path: Path, shown: Path, registry: Registry, selection: Selection) -> list[JobSpec]:
    """Return the jobs that ``selection`` makes of the eval file ``path``.

    ``shown`` is the path in messages. Raises ``SpecError`` with every problem of the file, the
    files it includes and the presets it names, and of ``selection`` applied to it. Task ids are
    not compared with the dataset, which is not built.
    """
    tree = load_tree(path, shown, os.environ)
    root, problems = tree.root, tree.problems
    overrides, found = parse_overrides(selection.sets, shown, os.environ)
    problems += found
    problems += conflicts(selection, overrides)
    jobs: list[JobSpec] = []
    if root is not None:
        loading = _Loading(path, tree, shown, registry, selection, overrides)
        jobs = list(loading.jobs(with_agent(root)))
        problems += loading.components.problems
        problems += loading.presets.problems
        problems += loading.sections.problems
    if problems:
        raise SpecError(_ordered(problems, shown))
    return jobs


def _ordered(problems: list[Problem], shown: Path) -> list[Problem]:
    """Return each problem once: the file's own by line, then those of other files."""
    return sorted(
        dict.fromkeys(problems),
        key=lambda problem: (problem.path != shown, str(problem.path), problem.line or 0),
    )


def _without_texts(tree: Node) -> Node:
    """Return ``tree`` without what tasks and attacks say, and what has no effect."""
    assert isinstance(tree.value, dict)
    kept = {key: node for key, node in tree.value.items() if key not in _TEXTS}
    return branch(kept, tree.place)


_TEXTS = ("attack", "attacks", "dataset", "hydra")


@dataclass(frozen=True)
class _Attacked:
    """An attack with the cell of overrides that its config was made with."""

    spec: AttackSpec | None
    cell: Cell = ()


class _Loading:
    """Makes jobs out of one eval file's tree."""

    def __init__(
        self,
        path: Path,
        tree: Tree,
        shown: Path,
        registry: Registry,
        selection: Selection,
        overrides: tuple[Override, ...],
    ) -> None:
        self.components = Components(registry)
        self.presets = Presets(path.parent, shown, registry, os.environ)
        self.sections = Sections(path.parent, shown, registry, os.environ)
        self._path, self._tree, self._shown = path, tree, shown
        self._selection = selection
        self._file_overrides = [one for one in overrides if not one.for_attacks]
        self._attack_overrides = [one for one in overrides if one.for_attacks]

    def jobs(self, root: Node) -> Iterator[JobSpec]:
        selection = self._selection
        agents = tuple(dict.fromkeys(selection.agents)) or (None,)
        models = tuple(dict.fromkeys(selection.models)) or (None,)
        root = self.sections.resolved(root)
        for cell, agent, model in product(cells(self._file_overrides), agents, models):
            tree = with_options(root, selection, agent, model, self._shown)
            for change in cell:
                tree = self.sections.resolved(apply_to_file(tree, change, self.components))
            yield from self._jobs_of(with_agent(tree), cell)

    def _jobs_of(self, tree: Node, cell: Cell) -> Iterator[JobSpec]:
        self.components.problems += missing(_without_texts(tree))
        envelope = check_envelope(tree, self._shown, self.components.problems)
        dataset = self._component(Kind.DATASET, tree, "dataset", None)
        agent = self._component(Kind.AGENT, tree, "agent", envelope.model)
        attacks = list(self._attacks(tree))
        if envelope.file is None or dataset is None or agent is None or envelope.model is None:
            return
        for attacked in attacks:
            yield self._job(envelope, dataset, agent, attacked, swept((*cell, *attacked.cell)))

    def _component(
        self, kind: Kind, tree: Node, key: str, model: str | None
    ) -> ComponentSpec | None:
        section = tree.child(key)
        return None if section is None else self.components.spec(kind, section, (key,), model)

    def _attacks(self, tree: Node) -> Iterator[_Attacked]:
        """Yield the attacks to run; one that is ``None`` stands for the benign tasks."""
        selection = self._selection
        in_file = file_attacks(tree, self.presets)
        chosen: Mapping[str, Place] = in_file.chosen
        if selection.attacks or selection.benign:
            chosen = {
                name: Place(self._shown, None, f"--attack {name}") for name in selection.attacks
            }
        if selection.benign or not chosen:
            yield _Attacked(None)
        if self._attack_overrides and not chosen:
            for override in self._attack_overrides:
                problem = override.place.problem("no attack is selected")
                self.components.problems.append(problem)
        for name, definition in in_file.defined.items():
            if name not in chosen:  # not run, and checked nevertheless
                self.components.spec(Kind.ATTACK, definition.section, definition.at)
        for name, place in chosen.items():
            found = self.presets.find(name, place, in_file.defined)
            if found is not None:
                yield from self._cells_of(found)

    def _cells_of(self, definition: Definition) -> Iterator[_Attacked]:
        for cell in cells(self._attack_overrides):
            section = definition.section
            for change in cell:
                section = apply_to_attack(section, change, self.components)
            self.components.problems += missing(section, ("attack",))
            spec = self.components.spec(Kind.ATTACK, section, definition.at)
            if spec is not None:
                attack = AttackSpec(spec.type, spec.config, spec.raw, definition.name)
                yield _Attacked(attack, cell)

    def _job(
        self,
        envelope: Envelope,
        dataset: ComponentSpec,
        agent: ComponentSpec,
        attacked: _Attacked,
        cell: dict[str, str],
    ) -> JobSpec:
        file, model = envelope.file, envelope.model
        assert file is not None
        assert model is not None
        job = JobSpec(
            source=self._path,
            base=self._tree.base,
            name=file.name,
            dataset=dataset,
            agent=agent,
            model=model,
            attack=attacked.spec,
            malicious_as_benign=bool(file.malicious_as_benign),
            task_ids=tuple(file.task_ids) if file.task_ids else None,
            runs=envelope.runs,
            usage_limits=usage_limits(file),
            concurrency=envelope.concurrency,
            pass_when=envelope.pass_when,
            finish=finish_changes(file),
            tags=tuple(file.tags or ()),
            gates=tuple(file.gates or ()),
            cell=cell,
            snapshot={},
            # A recorded job had its warnings when it was made.
            warnings=() if self._tree.recorded else envelope.warnings,
        )
        return replace(job, snapshot=snapshot(job, file, self._shown))
