"""Reads an eval file and returns its jobs, or all that is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from pytest_siren.evaluation.components import Kind, Registry
from pytest_siren.spec.apply import apply_to_attack, apply_to_file, conflicts, with_options
from pytest_siren.spec.components import Components
from pytest_siren.spec.envelope import Envelope, check_envelope, with_agent
from pytest_siren.spec.errors import Problem, SpecError
from pytest_siren.spec.fileattacks import file_attacks
from pytest_siren.spec.include import Tree, load_tree
from pytest_siren.spec.jobspec import AttackSpec, ComponentSpec, JobSpec
from pytest_siren.spec.mandatory import missing
from pytest_siren.spec.overrides import Cell, Override, cells, parse_overrides, swept
from pytest_siren.spec.presets import Definition, Presets
from pytest_siren.spec.schema import UNSUPPORTED
from pytest_siren.spec.sections import Sections
from pytest_siren.spec.selection import Selection
from pytest_siren.spec.snapshot import finish_changes, snapshot, usage_limits
from pytest_siren.yamlpos.nodes import Node, Place, branch

__all__ = ["UNSUPPORTED", "AttackSpec", "ComponentSpec", "JobSpec", "load_jobs"]


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
