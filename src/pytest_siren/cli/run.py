"""``siren run benign|attack``: prompt-siren's command, implemented by pytest."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_siren.cli.output import write_error
from pytest_siren.spec.documents import load_tree
from pytest_siren.spec.overrides import parse_overrides

NO_ANSWER = 2
_INI_FILES = (
    *("pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml", "pyproject.toml"),
    *("tox.ini", "setup.cfg", "setup.py"),
)
_WITH_VALUE = (
    *("--config-dir", "--config-name", "-k", "--runs", "--job-name", "--jobs-dir"),
    *("--attack", "--model", "--slurm-partition", "--slurm-time"),
)
_SHOWN = tuple(
    (option, what) for option in ("--cfg", "--show-config") for what in ("job", "all", "hydra")
)


class _Interleaved(argparse.ArgumentParser):
    """Accepts overrides and options in any order, which argparse's subcommands do not."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = list(args or ())
        end = words.index("--") if "--" in words else len(words)
        overrides, options = list[str](), list[str]()
        for before, word in zip(["", *words], words[:end], strict=False):
            is_value = before in _WITH_VALUE or (before, word) in _SHOWN
            is_override = not is_value and not word.startswith("-")
            (overrides if is_override else options).append(word)
        rest = ["--", *overrides, *words[end + 1 :]] if overrides or words[end:] else []
        return super().parse_known_args([*options, *rest], namespace)


class _CannotRunError(ValueError):
    """The arguments describe something that cannot be run."""


@dataclass
class _Given:
    """The words of the command line."""

    overrides: list[str] = field(default_factory=list)
    attacks: list[str] = field(default_factory=list)
    pytest: list[str] = field(default_factory=list)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``siren run``."""
    run = subparsers.add_parser(
        "run", help="run a configuration, benign or attacked: the same as pytest with its file"
    )
    add_modes(run)


def add_modes(parser: argparse.ArgumentParser) -> None:
    """Add the commands ``benign`` and ``attack`` to ``parser``."""
    commands = parser.add_subparsers(
        title="commands", required=True, metavar="benign|attack", parser_class=_Interleaved
    )
    for mode, help_text in (
        ("benign", "run every task without an attack, malicious tasks as benign ones too"),
        ("attack", "run every pair of a benign and a malicious task under an attack"),
    ):
        command = commands.add_parser(
            mode,
            help=help_text,
            description=f"{help_text[0].upper()}{help_text[1:]}. Runs pytest with the file "
            "NAME.yaml of the folder DIR, and exits as it does; 2 when there is nothing to run.",
        )
        _add_options(command)
        command.set_defaults(run=_run, mode=mode)


def _add_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--config-dir", default="config", metavar="DIR", help="default: ./config")
    add("--config-name", default="config", metavar="NAME", help="default: config")
    add("-k", "--runs", type=int, metavar="N", help="runs of each task")
    add("--multirun", action="store_true", help="KEY=a,b runs each value, as a job of its own")
    add("--job-name", metavar="NAME", help="name of the job (default: made up)")
    add("--jobs-dir", metavar="DIR", help="folder of the jobs")
    add("--attack", action="append", default=[], metavar="NAME", help="the same as +attack=NAME")
    add("--model", action="append", default=[], metavar="M", help="instead of agent.config.model")
    add(
        "--cfg",
        "--show-config",
        nargs="?",
        const="job",
        choices=("job", "all"),
        help="show the configuration, and run nothing",
    )
    add_slurm(command)
    add(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="as --set of pytest; +dataset=NAME and +attack=NAME choose presets; what follows -- "
        "is passed on to pytest",
    )


def add_slurm(command: argparse.ArgumentParser) -> None:
    """Add prompt-siren's options of Slurm, which ``slurm_args`` hands on."""
    add = command.add_argument
    add("--slurm", action="store_true", help="have the runs executed by Slurm jobs")
    add("--slurm-partition", metavar="PART", help="partition to submit to")
    add("--slurm-time", metavar="MINUTES", type=int, help="time limit of a job")
    add("--no-wait", action="store_true", help="exit as soon as the jobs are submitted")


def slurm_args(args: argparse.Namespace) -> list[str]:
    """Return the options of ``add_slurm`` that are given, as pytest's."""
    given = ["--siren-slurm"] if args.slurm else []
    if args.slurm_partition is not None:
        given.append(f"--siren-slurm-partition={args.slurm_partition}")
    if args.slurm_time is not None:
        given.append(f"--siren-slurm-time={args.slurm_time}")
    return [*given, "--siren-no-wait"] if args.no_wait else given


def _run(args: argparse.Namespace) -> int:
    try:
        given = pytest_args(args, Path.cwd())
    except _CannotRunError as error:
        write_error(f"run {args.mode}: {error}")
        return NO_ANSWER
    return subprocess.call([sys.executable, "-m", "pytest", *given])


def pytest_args(args: argparse.Namespace, folder: Path) -> list[str]:
    """Return the arguments of pytest that do the same from the current folder ``folder``.

    Raises ``ValueError`` for what cannot be run.
    """
    file = Path(args.config_dir, f"{args.config_name.removesuffix('.yaml')}.yaml")
    if not (folder / file).is_file():
        raise _CannotRunError(f"there is no {file}; write one with: siren config export")
    given = _sorted(args)
    if not (args.multirun or args.slurm):  # prompt-siren's launcher is that of a multirun
        _check_single(given, args.model)
    made = [str(file)]
    if not any(
        (above / name).exists() for above in (folder, *folder.parents) for name in _INI_FILES
    ):
        made.append("--rootdir=.")  # else it would be the folder of the file
    made += _of_mode(args.mode, given, folder / file, file)
    made += [f"--siren-model={one}" for one in args.model]
    made += [f"--siren-set={one}" for one in given.overrides]
    made += [f"--siren-runs={args.runs}"] if args.runs is not None else []
    made += [f"--siren-job-name={args.job_name}"] if args.job_name else []
    made += [f"--siren-jobs-dir={args.jobs_dir}"] if args.jobs_dir else []
    made += ["--siren-show-config"] if args.cfg else []
    made += slurm_args(args)
    return made + given.pytest


def _sorted(args: argparse.Namespace) -> _Given:
    given = _Given(attacks=list(args.attack))
    for place, word in enumerate(args.overrides):
        if word.startswith("-"):
            given.pytest = args.overrides[place:]
            break
        if word.startswith(("attack=", "+attack=")):
            given.attacks.append(word.partition("=")[2])
        elif "=" in word or word.startswith("~"):
            given.overrides.append(word)
        else:
            raise _CannotRunError(f"{word}: expected KEY=VALUE or ~KEY (pytest's own follow --)")
    return given


def _check_single(given: _Given, models: Sequence[str]) -> None:
    overrides, problems = parse_overrides(given.overrides, Path("--set"), os.environ)
    if problems:
        raise _CannotRunError("; ".join(problem.message for problem in problems))
    several = [".".join(one.path) for one in overrides if len(one.choices) > 1]
    several += [name for name in (*given.attacks, *models) if "," in name]
    if several:
        raise _CannotRunError(f"{', '.join(several)}: several values need --multirun")


def _of_mode(mode: str, given: _Given, path: Path, shown: Path) -> list[str]:
    if mode == "benign":
        given.overrides = [one for one in given.overrides if not one.startswith("attack.")]
        if not any(one.lstrip("+").startswith("malicious_as_benign=") for one in given.overrides):
            given.overrides.append("malicious_as_benign=true")
        return ["--siren-benign"]
    if given.attacks:
        return [f"--siren-attack={one}" for one in given.attacks]
    root = load_tree(path, shown, os.environ).root
    sections = [root.child(key) for key in ("attack", "attacks")] if root is not None else []
    if root is not None and not any(one is not None and one.value for one in sections):
        raise _CannotRunError(f"{shown} names no attack; name one: +attack=NAME")
    return []
