"""Sessions on a real Slurm: the same as on one machine, whatever happens to their elements.

After each fault every run has one score, nothing that had a score was executed again, and the
session ended by itself. The model's own log says what was executed.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from tests.acceptance.noted_server import NotedServer, noted_server
from tests.acceptance.project import Project, Started
from tests.acceptance.test_cluster import table, verdicts
from tests.slurm.cluster import Cluster

pytestmark = pytest.mark.slow

RUNS = 40
WINDOW = 4
"""Runs in flight, of each element."""
EVAL = """
dataset:
  type: inline
  config:
    tasks: [{tasks}]
agent: {{type: plain, config: {{model: "openai-chat:noted"}}}}
execution: {{concurrency: {window}}}
slurm: {{mem_gb: 1, cpus_per_task: 1, time_minutes: 60}}
"""
TASK = '{{id: t{0}, prompt: "t{0} please", evaluators: {{c: {{type: contains, value: done}}}}}}'
_LONGEST = 150.0
"""Seconds after which a session does not end by itself."""


@dataclass
class Evaluation:
    """A project of 40 runs, and the model that they ask."""

    project: Project
    server: NotedServer

    def start(self, *args: str) -> Started:
        """Start a session of two elements."""
        shards = () if "--slurm-shards" in args else ("--slurm-shards", "2")
        engine = () if "--siren-executor" in args else ("--slurm",)
        return self.project.start("evals", *engine, *shards, *args)

    def scored(self) -> int:
        """Return how many runs have a score."""
        return sum(one["status"] == "scored" for one in self.project.results())

    def until(self, is_so: Callable[[], object], process: Started) -> None:
        """Wait until ``is_so()``, while the session runs."""
        deadline = time.monotonic() + 90
        while not is_so():
            if process.returncode is not None or time.monotonic() > deadline:
                process.kill()
                pytest.fail(process.finish())
            time.sleep(0.05)

    def until_at_work(self, process: Started, elements: int = 2) -> None:
        """Wait until so many elements have runs in flight, and some runs have been scored."""

        def at_work() -> bool:
            names = {path.name.split(".")[0] for path in self.session_files("reports/*.jsonl")}
            return len(names) >= elements and self.scored() >= 4

        self.until(at_work, process)

    def session_files(self, pattern: str) -> list[Path]:
        return list(self.project.path.glob(f"jobs/.sessions/*/{pattern}"))

    def ids(self) -> list[str]:
        """Return Slurm's ids of the elements that were submitted."""
        found = []
        for path in sorted(self.session_files("submitted-*.json")):
            found += [one[1] for one in json.loads(path.read_text())["ids"]]
        return found

    def finish(self, process: Started) -> str:
        """Return what the session printed, after it has ended by itself."""
        try:
            return process.finish(_LONGEST)
        except subprocess.TimeoutExpired:
            process.kill()
            pytest.fail(f"the session does not end:\n{process.finish()}")

    def check_each_run_was_scored_once(self) -> None:
        """Every run has one score, and nobody executed it after it had been scored."""
        results = self.project.results()
        scored = {one["task_id"]: one for one in results if one["status"] == "scored"}
        assert Counter(one["task_id"] for one in results if one["status"] == "scored") == Counter(
            f"t{number}" for number in range(RUNS)
        )
        for one in self.server.asked:
            ended = datetime.fromisoformat(scored[one.task]["finished_at"]).timestamp()
            assert one.at < ended, f"{one.task} was executed again after it had been scored"

    def check_completed_by_lf(self, *args: str) -> None:
        """``pytest --lf`` executes what is left."""
        result = self.project.run("--lf", *args)
        assert result.ret == pytest.ExitCode.OK, result.stdout.str()
        self.check_each_run_was_scored_once()


@pytest.fixture
def evaluation(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Evaluation]:
    (project.path / "evals/eval_mail.yaml").unlink()
    project.write("conftest.py", "")
    tasks = ", ".join(TASK.format(number) for number in range(RUNS))
    project.write("evals/eval_noted.yaml", EVAL.format(tasks=tasks, window=WINDOW))
    with noted_server() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "a key")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield Evaluation(project, server)


# Of one element.


def test_others_do_the_work_of_a_cancelled_element(slurm: Cluster, evaluation: Evaluation) -> None:
    process = evaluation.start("--gate", "utility >= 0.9")
    evaluation.until_at_work(process)
    first = evaluation.ids()[0]
    slurm.command("scancel", first)
    output = evaluation.finish(process)
    assert process.returncode == pytest.ExitCode.OK, output
    job = first.partition("_")[0]
    assert f"siren: slurm {first} failed: CANCELLED by 0; its log: " in output
    assert f"siren: slurm {job}: " in output
    assert f"{RUNS} passed" in output
    evaluation.check_each_run_was_scored_once()
    assert max(evaluation.server.counts().values()) <= 2
    assert sum(evaluation.server.counts().values()) <= RUNS + WINDOW


@pytest.mark.nightly
def test_others_do_the_work_of_an_element_that_was_cancelled_before_it_began(
    slurm: Cluster, evaluation: Evaluation
) -> None:
    process = evaluation.start("--set", "slurm.array_parallelism=1")
    evaluation.until_at_work(process, elements=1)
    slurm.command("scancel", evaluation.ids()[1])
    output = evaluation.finish(process)
    assert process.returncode == pytest.ExitCode.OK, output
    assert "1 pending (JobArrayTaskLimit)" in output
    evaluation.check_each_run_was_scored_once()
    assert set(evaluation.server.counts().values()) == {1}


def test_an_element_that_is_out_of_time_goes_on_in_its_next_start(
    slurm: Cluster, evaluation: Evaluation
) -> None:
    """By the signal that Slurm sends then; the limit itself takes more than a minute."""
    process = evaluation.start("--slurm-shards", "1")
    evaluation.until_at_work(process, elements=1)
    slurm.command("scancel", "--signal=USR2", *evaluation.ids())
    output = evaluation.finish(process)
    assert process.returncode == pytest.ExitCode.OK, output
    assert "1 pending (" in output
    evaluation.check_each_run_was_scored_once()


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_a_time_limit_of_a_minute(slurm: Cluster, evaluation: Evaluation) -> None:
    evaluation.server.latency = 4.0
    process = evaluation.start("--slurm-shards", "1", "--slurm-time", "1")
    output = process.finish(timeout=500)
    assert process.returncode == pytest.ExitCode.OK, output
    evaluation.check_each_run_was_scored_once()
    assert sum(evaluation.server.counts().values()) > RUNS


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_an_element_that_never_gets_anywhere_is_given_up(
    slurm: Cluster, evaluation: Evaluation
) -> None:
    evaluation.server.open.clear()
    process = evaluation.start("--slurm-shards", "1")
    for start in range(3):
        wanted = WINDOW * (start + 1)
        evaluation.until(lambda wanted=wanted: len(evaluation.server.asked) >= wanted, process)
        slurm.command("scancel", "--signal=USR2", *evaluation.ids())
    # An array of its own goes on with what is left.
    evaluation.until(lambda: len(evaluation.ids()) == 2, process)
    evaluation.server.open.set()
    output = evaluation.finish(process)
    assert process.returncode == pytest.ExitCode.OK, output
    assert "no run came to its end in 3 starts; give elements more time with --slurm-time" in output
    evaluation.check_each_run_was_scored_once()


@pytest.mark.nightly
def test_an_element_that_gives_way_goes_on_later(
    slurm_alone: Cluster, evaluation: Evaluation
) -> None:
    process = evaluation.start()
    evaluation.until_at_work(process)
    urgent = ("--partition=urgent", "--nodes=4", "--mem=100M", "--exclusive", "--output=/dev/null")
    slurm_alone.command("sbatch", "--quiet", *urgent, "--wrap=sleep 1")
    output = evaluation.finish(process)
    assert process.returncode == pytest.ExitCode.OK, output
    assert "pending (" in output
    evaluation.check_each_run_was_scored_once()


@pytest.mark.nightly
def test_an_element_whose_node_fails_starts_elsewhere(
    slurm_alone: Cluster, evaluation: Evaluation
) -> None:
    process = evaluation.start("--set", "slurm.mem_gb=5")
    evaluation.until_at_work(process)
    node = slurm_alone.command("squeue", "-h", "-r", "-j", evaluation.ids()[0], "-o", "%N")
    slurm_alone.kill_node(node)
    output = evaluation.finish(process)
    assert process.returncode == pytest.ExitCode.OK, output
    evaluation.check_each_run_was_scored_once()


_HUNGRY = """
import os
import time
from pathlib import Path

def pytest_siren_request_before(request):
    mark = Path("eaten")
    if "SLURM_JOB_ID" in os.environ and request.run.task_id == "t9" and not mark.exists():
        mark.touch()
        eaten = b"x" * 1_500_000_000
        time.sleep(20)
"""


@pytest.mark.nightly
def test_others_do_the_work_of_an_element_that_used_too_much_memory(
    slurm: Cluster, evaluation: Evaluation
) -> None:
    evaluation.project.write("conftest.py", _HUNGRY)
    process = evaluation.start()
    output = evaluation.finish(process)
    assert process.returncode == pytest.ExitCode.OK, output
    assert re.search(r"siren: slurm \d+_\d failed: (FAILED|OUT_OF_MEMORY)", output)
    evaluation.check_each_run_was_scored_once()


# Of all elements.


@pytest.mark.nightly
def test_a_cancelled_array_is_not_submitted_again(slurm: Cluster, evaluation: Evaluation) -> None:
    process = evaluation.start()
    evaluation.until_at_work(process)
    slurm.command("scancel", evaluation.ids()[0].partition("_")[0])
    output = evaluation.finish(process)
    assert process.returncode == pytest.ExitCode.TESTS_FAILED, output
    assert output.count("submitted to slurm") == 1
    assert output.count("failed: CANCELLED by 0") == 2
    assert "finish them with: pytest --lf --slurm\n" in output
    evaluation.check_completed_by_lf("--slurm", "--slurm-shards", "1")


_BROKEN = """
import os

if "SLURM_JOB_ID" in os.environ:
    import no_such_module_on_nodes
"""


def test_a_broken_environment_is_one_message(slurm: Cluster, evaluation: Evaluation) -> None:
    evaluation.project.write("conftest.py", _BROKEN)
    process = evaluation.start()
    output = evaluation.finish(process)
    assert process.returncode == pytest.ExitCode.TESTS_FAILED, output
    assert output.count("No module named 'no_such_module_on_nodes'") == 1
    assert output.count("submitted to slurm") == 1
    assert f"pending: {RUNS} of {RUNS} runs" in output
    evaluation.check_completed_by_lf()


# Of the session's own process, and of Slurm.


@pytest.mark.nightly
def test_elements_of_a_session_that_was_killed_are_followed_by_the_next(
    slurm: Cluster, evaluation: Evaluation
) -> None:
    process = evaluation.start()
    evaluation.until_at_work(process)
    evaluation.server.latency = 3.0
    process.kill()
    process.finish()
    result = evaluation.project.run("--lf")
    assert result.ret == pytest.ExitCode.OK, result.stdout.str()
    result.stdout.fnmatch_lines(["siren: follows slurm *"])
    evaluation.check_each_run_was_scored_once()
    assert set(evaluation.server.counts().values()) == {1}


@pytest.mark.nightly
def test_elements_of_a_session_whose_terminal_is_gone_are_followed_by_the_next(
    slurm: Cluster, evaluation: Evaluation
) -> None:
    process = evaluation.start()
    evaluation.until_at_work(process)
    evaluation.server.latency = 3.0
    process.send_signal(signal.SIGHUP)
    process.finish(timeout=60)
    evaluation.check_completed_by_lf()
    assert set(evaluation.server.counts().values()) == {1}


@pytest.mark.nightly
def test_a_session_waits_while_slurm_does_not_answer(
    slurm_alone: Cluster, evaluation: Evaluation
) -> None:
    process = evaluation.start()
    evaluation.until_at_work(process)
    evaluation.server.latency = 5.0
    slurm_alone.stop_controller()
    time.sleep(15)
    assert process.returncode is None
    slurm_alone.start_controller()
    output = evaluation.finish(process)
    assert process.returncode == pytest.ExitCode.OK, output
    assert "Slurm does not answer" in output
    assert "failed" not in output
    evaluation.check_each_run_was_scored_once()
    assert set(evaluation.server.counts().values()) == {1}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        pytest.param(
            ["--slurm-partition=nosuch"],
            "choose a partition with --slurm-partition",
            marks=pytest.mark.nightly,
        ),
        (["--set", "slurm.mem_gb=100"], "an element asks for 100 GB, 1 CPUs and 0 GPUs: lower"),
    ],
    ids=["partition", "memory"],
)
def test_what_slurm_refuses_is_told_and_can_be_finished_here(
    slurm: Cluster, evaluation: Evaluation, args: list[str], message: str
) -> None:
    process = evaluation.start(*args)
    output = evaluation.finish(process)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, output
    assert "nothing could be submitted" in output
    assert message in output
    assert not evaluation.server.asked
    if "--slurm-partition=nosuch" in args:
        evaluation.check_completed_by_lf()
        assert set(evaluation.server.counts().values()) == {1}


def test_a_machine_without_slurm_says_so(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable))
    process = evaluation.start()
    output = evaluation.finish(process)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, output
    assert "there is no sbatch on this machine" in output
    assert not evaluation.server.asked


@pytest.mark.parametrize(
    "mode", ["--run-mode=dry-run", pytest.param("--plan-only", marks=pytest.mark.nightly)]
)
def test_nothing_is_submitted_where_nothing_is_executed(evaluation: Evaluation, mode: str) -> None:
    output = evaluation.finish(evaluation.start(mode, "--siren-executor", "local"))
    assert "runs submitted to" not in output
    assert not (evaluation.project.path / "jobs").exists()
    assert not evaluation.server.asked


# The same as on one machine.

SUITES = ("banking", "slack", "travel", "workspace")


@pytest.mark.parametrize(
    "engine",
    ["slurm", *(pytest.param(one, marks=pytest.mark.nightly) for one in ("local", "dask"))],
)
def test_published_couples_come_to_the_same_as_on_one_machine(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    project: Project,
    transcripts: Path,
    engine: str,
) -> None:
    pytest.importorskip("agentdojo", reason="needs the extra agentdojo")
    if engine == "slurm":
        request.getfixturevalue("slurm")
    # Else the paths of jobs would be folded.
    monkeypatch.setenv("COLUMNS", "200")
    (project.path / "evals/eval_mail.yaml").unlink()
    project.write("conftest.py", "")
    source = Path(__file__).parents[2] / "evals"
    for suite in SUITES:
        text = (source / f"eval_agentdojo_{suite}.yaml").read_text()
        settings = "slurm: {mem_gb: 2, cpus_per_task: 1}\n"
        project.write(f"evals/eval_agentdojo_{suite}.yaml", text + settings)
    args = (
        *("evals", "--set", "dataset.config.version=v1", "--attack=recorded"),
        *(f"--model=replay:{transcripts / 'gpt-4o-2024-05-13'}", "--gate", "asr <= 0.3"),
    )
    here = project.run(*args, "--junitxml=here.xml")
    there = project.run(
        *args, "--junitxml=there.xml", "--siren-executor", engine, "--slurm-shards", "4"
    )
    there.stdout.fnmatch_lines([f"siren: 629 runs submitted to {engine}: 4 elements"])
    assert table(there) == table(here)
    assert there.ret == here.ret == pytest.ExitCode.TESTS_FAILED
    found = verdicts(project.path / "there.xml")
    assert len(found) == 629
    assert found == verdicts(project.path / "here.xml")
