"""Which controls stand behind the figures of recorded jobs, and which are missing.

The list follows what reviews of evaluations ask for: adaptive attackers (Nasr, Carlini et al. 2025,
"The Attacker Moves Second"), exposure, a placebo, audited evaluators, intervals for other tasks,
missing runs, and what it takes to run it again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pandas as pd

from pytest_siren.datasets.agentdojo import AgentDojoConfig
from pytest_siren.jobs.frame.table import read_runs
from pytest_siren.jobs.reading.job_config import RecordError
from pytest_siren.jobs.reading.read import load_config
from pytest_siren.jobs.records.naming import EXECUTION_FILE
from pytest_siren.metrics.rates.choices import Cluster
from pytest_siren.metrics.rates.measures import Measure, count_exposed, rate
from pytest_siren.text.words import counted, escaped

_STATIC = frozenset({"template_string", "dict", "file", "recorded", "transform"})
"""Attacks that decide all contents before the agent begins. ``transform`` is one where its
configuration only names what it transforms."""
_MOST_ERRORS = 0.01
"""Share of runs in error above which rates need bounds beside them."""
_KILL = 0.95
_SAMPLING = ("temperature", "top_p", "seed")


class State(StrEnum):
    """Whether a control was run."""

    DONE = "done"
    PARTLY = "partly"
    MISSING = "missing"
    NOT_NEEDED = "not needed"


_MARKS = {State.DONE: "[x]", State.PARTLY: "[~]", State.MISSING: "[ ]", State.NOT_NEEDED: "[-]"}


@dataclass(frozen=True)
class Control:
    """A control, and what the records say of it."""

    name: str
    state: State
    found: str
    """What was done, or what is missing."""
    remedy: str = ""
    """How to do what is missing."""


@dataclass(frozen=True)
class Checklist:
    """The controls of some jobs."""

    controls: Sequence[Control]
    problems: Sequence[str]
    """Jobs, lines and files that could not be read."""
    runs: int

    @property
    def missing(self) -> list[Control]:
        """Those that were not run, or for a part of the runs only."""
        return [one for one in self.controls if one.state in (State.PARTLY, State.MISSING)]

    def lines(self) -> Iterator[str]:
        """Yield them as lines of Markdown."""
        for one in self.controls:
            yield f"- {_MARKS[one.state]} **{one.name}**: {one.found}"
            if one.remedy and one in self.missing:
                yield f"      {one.remedy}"
        names = ", ".join(one.name for one in self.missing)
        yield ""
        yield f"missing or partly done: {names}" if names else "nothing is missing"

    def data(self) -> dict[str, Any]:
        """Return them as JSON data."""
        return {
            "controls": [{**vars(one), "state": one.state.value} for one in self.controls],
            "missing": [one.name for one in self.missing],
            "problems": list(self.problems),
            "runs": self.runs,
        }


def checklist(jobs: Sequence[Path], audits: Sequence[Path] = ()) -> Checklist:
    """Return the controls of ``jobs``, folders of recorded jobs.

    ``audits`` are files that ``siren audit -o`` wrote. What cannot be read is named.
    """
    read = read_runs(jobs, paths=True)
    problems = list(read.problems)
    configs: dict[str, Mapping[str, Any]] = {}
    for job in jobs:
        try:
            configs[str(job)] = load_config(job).values
        except RecordError as error:
            problems.append(str(error))
    facts = _Facts(read.runs, configs, _audits(audits, problems))
    return Checklist([make(facts) for make in _CONTROLS], problems, len(read.runs))


def _audits(paths: Sequence[Path], problems: list[str]) -> dict[str, _Audit]:
    found: dict[str, _Audit] = {}
    for path in paths:
        try:
            data = json.loads(path.read_bytes())
            version = data["versions"].get("benchmark")
            for dataset, one in data["datasets"].items():
                found[dataset] = _Audit(one["grader_kill"], version)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            problems.append(f"{path}: not the output of siren audit -o: {error}")
    return found


@dataclass(frozen=True)
class _Audit:
    """The audit of a dataset."""

    kill: float | None
    version: str | None
    """Of the benchmark; ``None`` where it has none."""

    def shown(self, dataset: str) -> str:
        rate = "n/a" if self.kill is None else f"{self.kill:.3f}"
        return f"{dataset} {rate}" + (f" ({self.version})" if self.version else "")


@dataclass(frozen=True)
class _Facts:
    runs: pd.DataFrame
    configs: Mapping[str, Mapping[str, Any]]
    audits: Mapping[str, _Audit]

    @property
    def attacked(self) -> pd.DataFrame:
        return self.runs[self.runs["attack"].notna()]

    @property
    def benign(self) -> pd.DataFrame:
        return self.runs[self.runs["attack"].isna()]

    def versions(self) -> dict[str, set[str]]:
        """Return the datasets that have versions, to those that the runs are of."""
        found: dict[str, set[str]] = {}
        for values in self.configs.values():
            dataset = values.get("dataset") or {}
            if dataset.get("type") == "agentdojo":
                config = AgentDojoConfig.model_construct(**dataset.get("config") or {})
                found.setdefault(str(values.get("dataset_name")), set()).add(str(config.version))
        return found

    def attacks(self) -> dict[str, str]:
        """Return the names of the attacks, to their types."""
        found = {}
        for values in self.configs.values():
            if values.get("attack"):
                kind = _kind(values["attack"])
                # Whatever AgentDojo's logs call their attacks, its benchmark plants them before.
                found[str(values.get("attack_name") or kind)] = (
                    "template_string" if "imported" in values else kind
                )
        return found


def _kind(attack: Mapping[str, Any]) -> str:
    """Return the type of ``attack``, or of the one that it transforms."""
    inner = (attack.get("config") or {}).get("of")
    if attack["type"] == "transform" and isinstance(inner, Mapping) and "type" in inner:
        return _kind(inner)
    return str(attack["type"])


def _adaptive(facts: _Facts) -> Control:
    attacks, name = facts.attacks(), "adaptive attacks"
    if not attacks:
        return Control(name, State.NOT_NEEDED, "nothing was attacked")
    own = sorted(one for one, kind in attacks.items() if kind not in _STATIC)
    static = sorted(one for one, kind in attacks.items() if kind in _STATIC)
    if not own:
        return Control(
            name,
            State.MISSING,
            f"only attacks that are decided beforehand: {', '.join(static)}",
            "an attack that learns from the agent may succeed where these do not: "
            "docs/how-to/adaptive_attack.md",
        )
    return Control(
        name, State.DONE, f"{', '.join(own)} (besides {', '.join(static) or 'no other'})"
    )


def _exposure(facts: _Facts) -> Control:
    counts, name = count_exposed(facts.attacked), "exposure"
    if not counts.runs:
        return Control(name, State.NOT_NEEDED, "nothing was attacked")
    known = counts.runs - counts.unknown
    found = (
        f"known for {known:,} of {counts.runs:,} attacked runs; "
        f"the model was sent planted text in {counts.exposed:,}"
    )
    remedy = "see docs/explanation/exposure.md for agents whose requests nobody sees"
    return Control(name, _share(known, counts.runs), found, remedy)


def _placebo(facts: _Facts) -> Control:
    name, scored = "placebo", facts.benign[facts.benign["status"] == "scored"]
    if not len(facts.attacked):
        return Control(name, State.NOT_NEEDED, "nothing was attacked")
    known = int(scored["placebo_scores"].notna().sum())
    found = f"{known:,} of {counted(len(scored), 'unattacked run')} judged by malicious evaluators"
    remedy = "run the benign tasks too (--benign), or judge recorded ones with siren rescore"
    return Control(name, _share(known, len(scored)), found, remedy)


def _baseline(facts: _Facts) -> Control:
    name, keys = "unattacked baseline", ["dataset", "agent", "model"]
    wanted = set(facts.attacked[keys].astype(str).itertuples(index=False, name=None))
    if not wanted:
        return Control(name, State.NOT_NEEDED, "nothing was attacked")
    there = set(facts.benign[keys].astype(str).itertuples(index=False, name=None))
    found = f"for {len(wanted & there):,} of {len(wanted):,} attacked configurations"
    remedy = "utility under attack says little without it: --benign"
    return Control(name, _share(len(wanted & there), len(wanted)), found, remedy)


def _graders(facts: _Facts) -> Control:
    name, audits, versions = "audited evaluators", facts.audits, facts.versions()
    datasets = sorted(facts.runs["dataset"].dropna().astype(str).unique())
    audited = [one for one in datasets if one in audits]
    others = [
        one for one in audited if versions.get(one, {audits[one].version}) != {audits[one].version}
    ]
    found = [f"grader_kill {audits[one].shown(one)}" for one in audited]
    found += [f"no audit of {one}" for one in datasets if one not in audits]
    found += [f"the runs of {one} are of {', '.join(sorted(versions[one]))}" for one in others]
    low = [one for one in audited if (audits[one].kill or 0.0) < _KILL]
    state = _share(len(audited), len(datasets))
    if audited and (low or others):
        state = State.PARTLY
    remedy = "siren audit DATASET -o audit.json, and --audit audit.json here"
    if low:
        remedy = f"below {_KILL}: review what is accepted (siren audit --exceptions)"
    return Control(name, state, "; ".join(found), remedy)


def _crossed(facts: _Facts) -> Control:
    name, found, lacking = "intervals for other tasks", [], 0
    groups = facts.attacked.groupby(["model", "attack"], observed=True)
    for (model, attack), runs in groups:
        estimate = rate(runs, Measure.of("asr"), cluster=Cluster.CROSSED)
        if estimate is not None:
            lacking += bool(estimate.lacking)
            found.append(f"{model}, {attack}: ASR {estimate.value:.3f} {estimate.interval}")
    if not found:
        return Control(name, State.NOT_NEEDED, "nothing was attacked and scored")
    remedy = "with so few tasks nothing can be said about others: attack more of them"
    return Control(name, _share(len(found) - lacking, len(found)), "; ".join(found), remedy)


def _errors(facts: _Facts) -> Control:
    name, total = "errors", len(facts.runs)
    errors = int((facts.runs["status"] == "error").sum())
    scored = facts.runs["status"] == "scored"
    unknown = scored & facts.runs["benign_score"].isna()
    unknown |= scored & facts.runs["attack"].notna() & facts.runs["attack_score"].isna()
    found = (
        f"{errors:,} of {counted(total, 'run')} in error, {int(unknown.sum()):,} of unknown score; "
        "neither is in a rate"
    )
    few = errors + int(unknown.sum()) <= _MOST_ERRORS * total
    remedy = "state the worst-case bounds beside each rate, or finish them with pytest --lf"
    return Control(name, State.DONE if few else State.PARTLY, found, remedy)


def _repeats(facts: _Facts) -> Control:
    name, keys = "repeated runs", ["job", "task_id"]
    counts = facts.runs.groupby(keys, observed=True).size()
    once, total = int((counts == 1).sum()), len(counts)
    found = f"{total - once:,} of {counted(total, 'task')} ran more than once"
    remedy = "one run of a task does not show how far the model varies: --runs N"
    return Control(name, _share(total - once, total), found, remedy)


def _versions(facts: _Facts) -> Control:
    return _of_configs(
        facts,
        "versions",
        _has_versions,
        "the packages that executed and judged",
        "jobs of this version hold them; state them where a job does not",
    )


def _has_versions(values: Mapping[str, Any]) -> bool:
    imported = (values.get("imported") or {}).get("agentdojo_package_versions", ["unknown"])
    return bool(values.get("versions") or values.get("rescored")) or "unknown" not in imported


def _seeds(facts: _Facts) -> Control:
    def settings(one: Mapping[str, Any]) -> bool:
        config = ((one.get("agent") or {}).get("config") or {}).get("model_settings") or {}
        return any(config.get(key) is not None for key in _SAMPLING)

    return _of_configs(
        facts,
        "seeds and sampling",
        settings,
        f"{', '.join(_SAMPLING)} of the model",
        "state them in agent.config.model_settings, or say that the provider's defaults held",
    )


def _prompts(facts: _Facts) -> Control:
    name, runs = "prompts and transcripts", facts.runs[facts.runs["status"] == "scored"]
    places = (
        Path(str(job), str(path), EXECUTION_FILE)
        for job, path in zip(runs["job"], runs["path"], strict=True)
    )
    kept = sum(os.path.exists(one) or os.path.exists(f"{one}.gz") for one in places)
    found = f"kept for {kept:,} of {counted(len(runs), 'scored run')}"
    return Control(name, _share(kept, len(runs)), found, "keep them: --siren-transcripts full")


def _of_configs(
    facts: _Facts, name: str, has: Callable[[Mapping[str, Any]], bool], what: str, remedy: str
) -> Control:
    done = sum(map(has, facts.configs.values()))
    found = f"{what}: recorded for {done:,} of {counted(len(facts.configs), 'job')}"
    return Control(name, _share(done, len(facts.configs)), found, remedy)


def _share(done: int, total: int) -> State:
    if done <= 0:
        return State.MISSING
    return State.DONE if done >= total else State.PARTLY


_CONTROLS: tuple[Callable[[_Facts], Control], ...] = (
    _adaptive,
    _exposure,
    _placebo,
    _baseline,
    _graders,
    _crossed,
    _errors,
    _repeats,
    _versions,
    _seeds,
    _prompts,
)


def shown(found: Checklist) -> str:
    """Return the list as a page of Markdown; texts of models and datasets are escaped."""
    return "".join(f"{escaped(line)}\n" for line in found.lines())
