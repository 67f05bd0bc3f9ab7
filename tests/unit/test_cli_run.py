"""``siren run``: which session of pytest it stands for (P3, P8, P9, P10, P11)."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_siren.cli import run as command
from pytest_siren.cli.main import main

CONFIG = "agent: {config: {model: m}}\n"


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The arguments that pytest was started with, in a folder with ``config/config.yaml``."""
    monkeypatch.chdir(tmp_path)
    Path("config").mkdir()
    Path("config/config.yaml").write_text(CONFIG)
    calls: list[list[str]] = []

    def call(arguments: list[str]) -> int:
        calls.append(arguments[3:])
        return 1

    monkeypatch.setattr(command.subprocess, "call", call)
    return calls


def test_benign_runs_every_task_without_an_attack(called: list[list[str]]) -> None:
    """P1, P3, P4: an attack that is named is passed over."""
    assert main(["run", "benign", "+dataset=x", "+attack=y", "attack.config.z=1", "runs=2"]) == 1
    assert called == [
        [
            *("config/config.yaml", "--rootdir=.", "--siren-benign"),
            *("--siren-set=+dataset=x", "--siren-set=runs=2"),
            "--siren-set=malicious_as_benign=true",
        ]
    ]


def test_attack_runs_the_attack_that_is_named(called: list[list[str]]) -> None:
    """P3, P5, P6, P7, P10."""
    main(
        [
            *("run", "attack", "--jobs-dir", "j", "+dataset=x", "+attack=y", "-k", "3"),
            *("--job-name", "n", "--model", "m2", "task_ids=[a,b]", "~tags", "--", "-n", "2"),
        ]
    )
    assert called == [
        [
            *("config/config.yaml", "--rootdir=.", "--siren-attack=y", "--siren-model=m2"),
            *("--siren-set=+dataset=x", "--siren-set=task_ids=[a,b]", "--siren-set=~tags"),
            *("--siren-runs=3", "--siren-job-name=n", "--siren-jobs-dir=j", "-n", "2"),
        ]
    ]


@pytest.mark.parametrize("text", ["attack: direct\n", "defaults: [attack: direct]\n"])
def test_attack_runs_the_attacks_of_the_file(called: list[list[str]], text: str) -> None:
    """P22."""
    Path("pytest.ini").touch()
    Path("config/config.yaml").write_text(CONFIG + text)
    main(["run", "attack", "--cfg", "job", "+dataset=x"])
    assert called == [["config/config.yaml", "--siren-set=+dataset=x", "--siren-show-config"]]


def test_another_file_is_named(called: list[list[str]]) -> None:
    """P8, P9."""
    Path("other").mkdir()
    Path("other/name.yaml").write_text(CONFIG)
    main(["run", "benign", "--config-dir", "other", "--config-name", "name"])
    assert called[0][0] == "other/name.yaml"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["benign", "--config-dir", "no"],
            "there is no no/config.yaml; write one with: siren config",
        ),
        (["attack"], "config/config.yaml names no attack; name one: +attack=NAME"),
        (["benign", "runs=1,2"], "runs: several values need --multirun"),
        (["attack", "+attack=a,b"], "a,b: several values need --multirun"),
        (["benign", "word"], "word: expected KEY=VALUE or ~KEY"),
    ],
)
def test_what_cannot_be_run_is_refused(
    called: list[list[str]],
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """P3, P8, P11."""
    assert main(["run", *arguments]) == 2
    assert f"siren: run {arguments[0]}: {message}" in capsys.readouterr().err
    assert called == []


def test_multirun_takes_several_values(called: list[list[str]]) -> None:
    """P11."""
    main(["run", "attack", "--multirun", "+attack=a,b", "+dataset=x,y"])
    assert "--siren-attack=a,b" in called[0]
    assert "--siren-set=+dataset=x,y" in called[0]


def test_slurm_is_handed_on_and_takes_several_values(called: list[list[str]]) -> None:
    """P12 to P14."""
    given = ["--slurm", "--slurm-partition", "x", "--slurm-time=9", "--no-wait", "+dataset=x,y"]
    main(["run", "benign", *given])
    assert called[0][-4:] == [
        *("--siren-slurm", "--siren-slurm-partition=x", "--siren-slurm-time=9", "--siren-no-wait")
    ]
    assert "--siren-set=+dataset=x,y" in called[0]
