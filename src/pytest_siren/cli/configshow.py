"""``siren config show`` and ``info``: the jobs of eval files, and the known components."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pytest_siren.cli.output import write_error, write_line
from pytest_siren.evaluation.components import Kind, Registry
from pytest_siren.evaluation.models import NoModel
from pytest_siren.jobs.redact import Redactor, of_override
from pytest_siren.spec.components import Selection
from pytest_siren.spec.errors import SpecError
from pytest_siren.spec.jobs import load_jobs

OK, PROBLEMS = 0, 1


def add_info(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``siren config info``."""
    info = commands.add_parser(
        "info",
        help="list the components that eval files can name",
        description="List the components that eval files can name, with the keys of their configs. "
        "Those that a conftest.py registers are known to pytest only. Exits with 0, or with 1 when "
        "a component cannot be loaded.",
    )
    info.add_argument(
        "kinds",
        nargs="*",
        metavar="KIND",
        choices=[[], "all", "plugins", *(kind.value for kind in Kind)],
        help="datasets, attacks, agents, models, evaluators, reports or sandboxes (default: all)",
    )
    info.add_argument("--json", action="store_true", help="as JSON, with the configs' JSON schemas")
    info.set_defaults(run=_info)


def show_file(file: Path, registry: Registry, selection: Selection) -> bool:
    """Write the configuration of each job of ``file``; return whether it has any."""
    # What records are written with is slow to import.
    from pytest_siren.jobs.writing.write import config_text

    try:
        jobs = load_jobs(file, file, registry, selection)
    except SpecError as error:
        given = frozenset(value for one in selection.sets for value in of_override(one))
        sys.stdout.write(f"{Redactor(given).text(str(error))}\n")
        return False
    for job in jobs:
        attack = job.attack.name if job.attack else "benign"
        model = NoModel.label if job.model is None else job.model
        header = (f"{file}: {job.dataset.type}, {job.agent.type}, {model}, {attack}",)
        sys.stdout.write(f"---\n{config_text(job.snapshot, header)}")
    return True


def _info(args: argparse.Namespace) -> int:
    named = [kind for kind in Kind if kind.value in args.kinds]
    registry, problems = Registry(), list[str]()
    found = {
        kind.value: list(_components(kind, registry, problems)) for kind in named or list(Kind)
    }
    if args.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        for kind_name, components in found.items():
            write_line(f"{kind_name}:")
            for one in components:
                keys = ", ".join(one["config"].get("properties", {})) or "none"
                write_line(f"  {one['name']} ({one['package']}): {keys}")
            if not components:
                write_line("  none")
    for problem in problems:
        write_error(problem)
    return PROBLEMS if problems else OK


def _components(kind: Kind, registry: Registry, problems: list[str]) -> Iterator[dict[str, Any]]:
    for point in sorted(entry_points(group=f"pytest_siren.{kind.value}"), key=lambda one: one.name):
        try:
            schema = registry.find(kind, point.name).config.model_json_schema()
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            problems.append(f"the {kind.value} {point.name!r} cannot be loaded: {error!r}")
            continue
        package = point.dist.name if point.dist else "?"
        yield {"name": point.name, "package": package, "value": point.value, "config": schema}
