"""What elements ask a cluster for, as submitit takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from submitit import AutoExecutor

from pytest_siren.distribute.cluster.settings import Settings, default_elements
from pytest_siren.session.config.option_groups import Submission
from pytest_siren.spec.schema import SlurmSection

NOTHING = Submission("slurm", None, None, None, True)
EVERYTHING: dict[str, Any] = {
    "partition": "main",
    "time_minutes": 2,
    "gpus_per_node": 1,
    "cpus_per_task": 2,
    "mem_gb": 3,
    "constraint": "fast",
    "account": "lab",
    "qos": "high",
    "array_parallelism": 5,
    "setup": ["module load x"],
    "additional_parameters": {"gres": "disk:1", "slurm_exclude": "node9", "mail-type": "BEGIN"},
}


@pytest.fixture
def srun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let submitit believe that it is on a cluster; nothing is submitted."""
    (tmp_path / "srun").touch(mode=0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


def script(settings: Settings, folder: Path) -> set[str]:
    executor = AutoExecutor(folder, cluster="slurm")
    executor.update_parameters(**settings.parameters("slurm"))
    made = executor._executor._make_submission_file_text("python", "x")
    return set(made.splitlines())


@pytest.mark.usefixtures("srun")
def test_every_key_reaches_sbatch(tmp_path: Path) -> None:
    assert EVERYTHING.keys() == SlurmSection.model_fields.keys()
    lines = script(Settings.of(EVERYTHING, NOTHING), tmp_path)
    assert {
        "#SBATCH --partition=main",
        "#SBATCH --time=2",
        "#SBATCH --gpus-per-node=1",
        "#SBATCH --cpus-per-task=2",
        "#SBATCH --mem=3GB",
        "#SBATCH --constraint=fast",
        "#SBATCH --account=lab",
        "#SBATCH --qos=high",
        "#SBATCH --gres=disk:1",
        "#SBATCH --exclude=node9",
        "#SBATCH --mail-type=BEGIN",
        "#SBATCH --signal=USR2@30",
        "#SBATCH --job-name=siren",
        "module load x",
    } <= lines
    assert any("srun" in line and "--cpus-per-task=2" in line for line in lines)


@pytest.mark.usefixtures("srun")
def test_options_win_over_the_eval_file(tmp_path: Path) -> None:
    settings = Settings.of(EVERYTHING, Submission("slurm", "urgent", 600, None, True))
    assert {
        "#SBATCH --partition=urgent",
        "#SBATCH --time=600",
        "#SBATCH --signal=USR2@120",
    } <= script(settings, tmp_path)


@pytest.mark.parametrize("engine", ["local", "debug"])
def test_other_engines_get_what_is_theirs(tmp_path: Path, engine: str) -> None:
    executor = AutoExecutor(tmp_path, cluster=engine)
    parameters = Settings.of(EVERYTHING, NOTHING).parameters(engine)
    executor.update_parameters(**parameters)
    assert not [name for name in parameters if name.startswith("slurm_")]
    assert parameters.get("local_setup") == (["module load x"] if engine == "local" else None)


@pytest.mark.parametrize("name", ["nodes", "slurm_ntasks_per_node", "open-mode", "array"])
def test_what_the_session_decides_is_refused(name: str) -> None:
    given = {"additional_parameters": {name: 2, "gres": "x"}}
    with pytest.raises(pytest.UsageError) as raised:
        Settings.of(given, NOTHING)
    assert f"slurm.additional_parameters: {name} cannot be given" in str(raised.value)


def test_equal_settings_are_one_group_and_come_back_from_a_plan() -> None:
    settings = Settings.of(EVERYTHING, NOTHING)
    assert len({settings, Settings.from_plain(settings.plain())}) == 1
    assert Settings.from_plain(settings.plain()) == settings
    changed = {**EVERYTHING, "additional_parameters": {"gres": "disk:2"}}
    assert len({settings, Settings.of(changed, NOTHING)}) == 2


@pytest.mark.parametrize(
    ("pending", "window", "processes", "elements"),
    [(0, 16, 1, 1), (16, 16, 1, 1), (17, 16, 1, 2), (629, 16, 2, 16), (64, 16, 2, 2)],
)
def test_elements_are_enough_for_the_pending_runs(
    pending: int, window: int, processes: int, elements: int
) -> None:
    assert default_elements(pending, window, processes) == elements
