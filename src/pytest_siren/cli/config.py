"""``siren config``: write a configuration to start from, and check eval files without running."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from pytest_siren.cli.configshow import add_info, show_file
from pytest_siren.cli.conftests import ConftestError, registry_for
from pytest_siren.cli.rootdir import root_folder
from pytest_siren.evaluation.components import Registry
from pytest_siren.evaluation.isolation import one_line
from pytest_siren.evaluation.models import Checked, NoModel
from pytest_siren.evaluators.python import ProjectRoot
from pytest_siren.jobs.redact import Redactor, of_config, of_override
from pytest_siren.spec.components import Selection
from pytest_siren.spec.documents import PRESETS
from pytest_siren.spec.errors import SpecError
from pytest_siren.spec.jobs import DATASET, DATASETS, FOLDER, load_jobs
from pytest_siren.spec.jobspec import JobSpec
from pytest_siren.text.words import escaped

OK, PROBLEMS, NO_ANSWER = 0, 1, 2
_DEFAULT_DIR = "config"
_EXAMPLE = "eval_example.yaml"
_BASE = "config.yaml"
_EVAL_FILES = "eval_*.yaml"
_ATTACK = ("attack=", "+attack=")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``siren config export`` and ``siren config validate``."""
    config = subparsers.add_parser("config", help="write or check eval files")
    commands = config.add_subparsers(title="commands", required=True, metavar="COMMAND")
    export = commands.add_parser("export", help="write examples and the built-in presets")
    export.add_argument(
        "dir",
        nargs="?",
        default=_DEFAULT_DIR,
        metavar="DIR",
        help="folder to make; it must not exist yet (default: ./config)",
    )
    export.set_defaults(run=_export)
    add_info(commands)
    show = commands.add_parser(
        "show",
        help="show the configuration of each job of eval files, without running anything",
        description="Show the resulting configuration of each job of the eval files, as YAML: "
        "defaults, includes, presets, variables and overrides applied, secrets taken out. Exits as "
        "validate does.",
    )
    _add_files(show)
    show.set_defaults(run=_show)
    validate = commands.add_parser(
        "validate",
        help="check eval files without running anything",
        description="Check eval files without running anything: whatever pytest finds when it "
        "collects them, and the providers of models and their packages, but neither keys nor "
        "servers. Exits with 0 when all is well, 1 when there are problems, 2 when there is "
        "nothing to check.",
    )
    _add_files(validate)
    validate.set_defaults(run=_validate)


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE|KEY=VALUE",
        help="eval files, or folders of such; and overrides as siren run takes them, such as "
        "+dataset=NAME, of config.yaml when no FILE is named",
    )
    _add_choices(parser)
    parser.add_argument(
        "--config-dir",
        metavar="DIR",
        help="folder to look into when no FILE is named (default: ./config)",
    )
    parser.add_argument("--config-name", metavar="NAME", help="only NAME.yaml in the folder")


def _add_choices(parser: argparse.ArgumentParser) -> None:
    for option, metavar, help_text in (
        ("--attack", "NAME[,NAME]", "check with these attacks"),
        ("--model", "M[,M]", "check with these models"),
        ("--agent", "A[,A]", "check with these agents"),
        ("--set", "KEY=VALUE", "override a key; a,b sweeps; +key adds; ~key deletes"),
    ):
        parser.add_argument(
            option, action="append", default=[], metavar=metavar, help=f"{help_text}; repeatable"
        )
    parser.add_argument("--benign", action="store_true", help="check the benign tasks too")


def _export(args: argparse.Namespace) -> int:
    target = Path(args.dir)
    if os.path.lexists(target):
        return _no_answer(f"{target} already exists; name another: siren config export DIR")
    if not os.path.isdir(target.parent):
        return _no_answer(f"there is no folder {target.parent} to make {target.name} in")
    try:
        (target / FOLDER).mkdir(parents=True)
        (target / DATASET).mkdir()
        _copy([files("pytest_siren.spec") / name for name in (_EXAMPLE, _BASE)], target)
        _copy(PRESETS.iterdir(), target / FOLDER)
        _copy(DATASETS.iterdir(), target / DATASET)
    except OSError as error:
        return _no_answer(f"{target} cannot be written: {error.strerror or error}")
    _write(
        f"{target}: {_EXAMPLE}, {_BASE} for siren run, and the presets of attacks and datasets; "
        f"try: pytest {target / _EXAMPLE}"
    )
    return OK


def _copy(sources: Iterable[Traversable], folder: Path) -> None:
    for source in sources:
        if source.name.endswith(".yaml"):
            (folder / source.name).write_bytes(source.read_bytes())


def _validate(args: argparse.Namespace) -> int:
    return _each(args, _check)


def _show(args: argparse.Namespace) -> int:
    return _each(args, show_file)


def _each(args: argparse.Namespace, do: Callable[[Path, Registry, Selection], bool]) -> int:
    overrides = [word for word in args.files if _is_override(word)]
    files = [word for word in args.files if not _is_override(word)]
    if files and (args.config_dir or args.config_name):
        return _no_answer("give FILEs or --config-dir and --config-name, not both")
    # Overrides are for one file: the one that siren run takes.
    name = args.config_name or (Path(_BASE).stem if overrides else None)
    paths = (
        [Path(one) for one in files]
        if files
        else [_configured(args.config_dir or _DEFAULT_DIR, name)]
    )
    for path in paths:
        if not os.path.exists(path):
            return _no_answer(f"there is no {path}; write one with: siren config export")
    found = [file for path in paths for file in _eval_files(path)]
    if not found:
        return _no_answer(f"there is no {_EVAL_FILES} in {', '.join(map(str, paths))}")
    attacks = [word.partition("=")[2] for word in overrides if word.startswith(_ATTACK)]
    selection = Selection(
        attacks=_names([*args.attack, *attacks]),
        benign=args.benign,
        models=_names(args.model),
        agents=_names(args.agent),
        sets=(*args.set, *(word for word in overrides if not word.startswith(_ATTACK))),
    )
    try:
        registry = registry_for(found)
    except ConftestError as error:
        return _no_answer(str(error))
    verdicts = [do(file, registry, selection) for file in found]
    return OK if all(verdicts) else PROBLEMS


def _is_override(word: str) -> bool:
    """Whether a positional argument is ``KEY=VALUE``, ``+KEY=VALUE`` or ``~KEY``, and no file."""
    return ("=" in word or word.startswith("~")) and not os.path.lexists(word)


def _configured(folder: str, name: str | None) -> Path:
    return Path(folder) if name is None else Path(folder, f"{name.removesuffix('.yaml')}.yaml")


def _eval_files(path: Path) -> Sequence[Path]:
    return sorted(path.rglob(_EVAL_FILES)) if os.path.isdir(path) else [path]


def _names(values: Sequence[str]) -> tuple[str, ...]:
    parts = (part.strip() for value in values for part in value.split(","))
    return tuple(part for part in parts if part)


def _check(file: Path, registry: Registry, selection: Selection) -> bool:
    given = frozenset(value for one in selection.sets for value in of_override(one))
    try:
        jobs = load_jobs(file, file, registry, selection)
    except SpecError as error:
        _write(Redactor(given).text(str(error)))
        return False
    problems, warnings = _problems(jobs, registry)
    for problem in problems:
        _write(escaped(Redactor(given).text(f"{file}: {problem}")))
    if problems:
        return False
    secrets = Redactor(given.union(*(of_config(job.snapshot) for job in jobs)))
    _write(escaped(secrets.text(f"{file}: {_summary(jobs)}")))
    for warning in warnings:
        _write(escaped(secrets.text(f"{file}: {warning}")))
    return True


def _problems(jobs: Sequence[JobSpec], registry: Registry) -> tuple[list[str], list[str]]:
    """Return what keeps pytest from building ``jobs`` or asking their models, and warnings."""
    # This imports the modules that execute runs.
    from pytest_siren.session.items.job import Workshop

    workshop = Workshop(registry, root=ProjectRoot(root_folder(Path.cwd())))
    problems: dict[str, None] = {}
    warnings: dict[str, None] = {}
    for job in jobs:
        try:
            built = workshop.job(job)
            warnings.update(dict.fromkeys(built.spec.warnings))
            model = built.model
            if isinstance(model, Checked):
                model.check()
        except Exception as error:  # noqa: BLE001 - whatever a component raises
            plain = isinstance(error, ValueError | LookupError | ImportError | OSError)
            problems[str(error) if plain else one_line(error)] = None
    problems.update(dict.fromkeys(workshop.close()))
    return list(problems), list(warnings)


def _summary(jobs: Sequence[JobSpec]) -> str:
    parts = {
        "dataset": (job.dataset.type for job in jobs),
        "agent": (job.agent.type for job in jobs),
        "model": (NoModel.label if job.model is None else job.model for job in jobs),
        "attack": (job.attack.name if job.attack else "none (benign)" for job in jobs),
    }
    noun = "job" if len(jobs) == 1 else "jobs"
    named = (f"{key} {', '.join(dict.fromkeys(values))}" for key, values in parts.items())
    return f"{len(jobs)} {noun}: {'; '.join(named)}"


def _write(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _no_answer(message: str) -> int:
    sys.stderr.write(f"siren config: {message}\n")
    return NO_ANSWER
