"""``--run-mode`` and ``--plan-only``: nothing is executed, and dry runs write nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.acceptance.conftest import Project

COUNTED = """
def counted(messages):
    return [TextPart(last_prompt(messages))]
"""
SHOUT = """
attacks:
  - name: shout
    type: template_string
    config: {attack_template: "{{ goal }}"}
"""
NOTHING = "nothing was executed or written"


@pytest.fixture
def counted(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The project with an attack, and a model that counts how often it is asked."""
    project.use_model("counted", COUNTED)
    with open(project.path / "evals/eval_mail.yaml", "a") as file:
        file.write(SHOUT)
    # Whatever a session writes, it writes into the tree that is compared.
    (project.path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(project.path / "temporary"))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    return project


_PYTESTERS = ("stdout", "stderr", "runpytest-")
"""What pytester writes itself, beside what its sessions do."""


def tree(folder: Path) -> dict[str, tuple[bytes, int] | None]:
    """Return what every file holds and when it was written last, and the names of all folders."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        if path.is_file()
        else None
        for path in sorted(folder.rglob("*"))
        if not path.relative_to(folder).parts[0].startswith(_PYTESTERS)
    }


def run_unseen(project: Project, *args: str) -> pytest.RunResult:
    """Run a session that must leave every file as it is."""
    before = tree(project.path)
    result = project.run(*args)
    assert tree(project.path) == before
    return result


MODES = ["--run-mode=dry-run", "--plan-only"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dist", ["no-xdist", "-n2"], indirect=True)
def test_nothing_is_executed_and_nothing_written(
    counted: Project, dist: list[str], mode: str
) -> None:
    counted.args = dist
    result = run_unseen(counted, "evals", "--runs=2", mode)
    assert result.ret == pytest.ExitCode.OK
    assert NOTHING in result.stdout.str()
    assert counted.asked() == 0
    assert not (counted.path / "jobs").exists()
    assert not (counted.path / ".pytest_cache").exists()
    nodeids = re.findall(r"\S+::\S+run\d\]", result.stdout.str())
    assert len(nodeids) == len(set(nodeids)) == 8


def test_a_dry_run_shows_identities_states_and_that_nothing_is_known(counted: Project) -> None:
    result = run_unseen(counted, "evals", "--run-mode=DRY_RUN")
    result.stdout.re_match_lines(
        [
            r"evals/eval_mail\.yaml: mail \| plain \| scripted:counted \| shout",
            r"  identity [0-9a-f]{16}, a new job",
            r"  4 runs: 4 pending",
            r"  would execute 4 runs: no earlier runs to estimate tokens and cost by",
            r"    [0-9a-f]{16} pending: evals/eval_mail.yaml::summary:advert"
            r"\[shout-scripted:counted-run0\]",
            r"dry run: 4 of 4 runs of 1 jobs would be executed; nothing was executed or written",
        ]
    )


def test_identities_are_those_that_the_runs_have(counted: Project) -> None:
    shown = run_unseen(counted, "evals", "--run-mode=dry-run").stdout.str()
    counted.run("evals")
    assert {result["identity"] for result in counted.results()} == set(
        re.findall(r"([0-9a-f]{16}) pending", shown)
    )


def test_estimates_are_taken_from_earlier_runs(counted: Project) -> None:
    counted.write("prices.yaml", "'scripted:counted': {input_mtok: 1000, output_mtok: 1000}\n")
    counted.run("evals", "--task-ids=summary:advert", "--siren-prices=prices.yaml")
    [done] = counted.results()
    used = done["usage"]
    result = run_unseen(counted, "evals", "--runs=3", "--task-ids=summary:advert", MODES[0])
    cost = 3 * float(done["cost"])
    result.stdout.fnmatch_lines(
        f"*would execute 3 runs: about {3 * used['input_tokens']:,} input and "
        f"{3 * used['output_tokens']:,} output tokens, ${cost:,.4f} (by 1 earlier runs)"
    )
    result = run_unseen(counted, "evals", MODES[0])
    # The benign task of summary:link has a record; those of reply have none.
    result.stdout.fnmatch_lines(
        "*would execute 4 runs: about * (by 1 earlier runs; 2 runs are of tasks without any: "
        "mean of the others)"
    )
    result = run_unseen(counted, "evals", "--model=scripted:deaf", MODES[0])
    result.stdout.fnmatch_lines("*would execute 4 runs: no earlier runs*")


def test_a_damaged_job_is_named_and_left_out_of_the_estimates(counted: Project) -> None:
    counted.run("evals")
    [job] = counted.jobs()
    (job / "index.jsonl").write_text("{torn\n")
    result = run_unseen(counted, "evals", MODES[0])
    result.stdout.fnmatch_lines("not in the estimates: */index.jsonl:1: *")


def test_resuming_dry_lists_exactly_what_is_missing(counted: Project) -> None:
    with open(counted.path / "conftest.py", "a") as conftest:
        conftest.write(
            "\nbefore = counted\n"
            "def counted(messages):\n"
            "    if 'report' in last_prompt(messages):\n"
            "        raise RuntimeError('no')\n"
            "    return before(messages)\n"
        )
    assert counted.run("evals").ret == pytest.ExitCode.TESTS_FAILED
    asked = counted.asked()
    [sweep] = (path.stem for path in counted.path.glob("jobs/.sweeps/*.json"))
    args = [f"--resume={sweep}", "--only-failed", "--run-mode=dry-run"]
    missing = {one["nodeid"] for one in counted.results() if one["status"] == "error"}
    assert len(missing) == 2
    for dist in (["-p", "no:xdist"], ["-n2"]):
        counted.args = dist
        result = run_unseen(counted, *args)
        assert result.ret == pytest.ExitCode.OK
        assert set(re.findall(r"\S+::\S+run\d\]", result.stdout.str())) == missing
        result.stdout.fnmatch_lines(
            [
                "  identity *, job jobs/mail_*",
                "  4 runs: 2 scored, 2 RuntimeError",
                "  would execute 2 runs: about *",
            ]
        )
    assert counted.asked() == asked
    # Without --only-failed, --resume does not try these errors again.
    result = run_unseen(counted, f"--resume={sweep}", "--run-mode=dry-run")
    result.stdout.fnmatch_lines(["  nothing would be executed", "dry run: 0 of 4 runs *"])
    assert result.ret == pytest.ExitCode.OK


def test_a_dry_lf_repairs_no_index_and_takes_no_job(counted: Project) -> None:
    counted.run("evals", "--task-ids=summary:advert")
    [job] = counted.jobs()
    (job / "index.jsonl").unlink()
    result = run_unseen(counted, "--lf", "--run-mode=dry-run")
    result.stdout.fnmatch_lines("*1 runs: 1 scored")
    assert not (job / "index.jsonl").exists()


def test_a_plan_says_what_is_skipped_and_why(counted: Project) -> None:
    counted.run("evals", "--task-ids=summary:advert")
    result = run_unseen(counted, "--lf", "--plan-only")
    result.stdout.re_match_lines(
        [r"plan: 1 jobs, 0 of 1 runs to execute", r" +- skip \(already scored\) job 1 .*"]
    )
    result = run_unseen(counted, "evals", "--plan-only", "-k", "link")
    result.stdout.re_match_lines(
        [
            r"plan: 1 jobs, 2 of 4 runs to execute",
            r"  job 1: [0-9a-f]{16} evals/eval_mail\.yaml: mail \| plain \| .* \| shout",
            r" +1 execute \(pending\) job 1 [0-9a-f]{16} .*::summary:link\[.*",
            r" +2 execute \(pending\) job 1 [0-9a-f]{16} .*::reply:link\[.*",
            r" +- skip \(not selected\) job 1 [0-9a-f]{16} .*::summary:advert\[.*",
            r" +- skip \(not selected\) job 1 [0-9a-f]{16} .*::reply:advert\[.*",
            NOTHING,
        ]
    )


@pytest.mark.parametrize(
    "dist", ["no-xdist", pytest.param("-n2", marks=pytest.mark.nightly)], indirect=True
)
def test_generated_jobs_are_executed_by_another_session(counted: Project, dist: list[str]) -> None:
    counted.args = dist
    result = counted.run("evals", "--runs=2", "--run-mode=generate-only")
    assert result.ret == pytest.ExitCode.OK
    assert counted.asked() == 0
    [job] = counted.jobs()
    assert sorted(path.name for path in job.iterdir()) == ["config.yaml"]
    [sweep] = counted.path.glob("jobs/.sweeps/*.json")
    assert json.loads(sweep.read_text())["job_names"] == [job.name]
    result.stdout.fnmatch_lines(
        [
            f"  jobs/{job.name}: 8 runs pending",
            f"execute them with: pytest --resume {sweep.stem}",
        ]
    )
    # A note of them is there as well.
    dry = run_unseen(counted, "--lf", "--run-mode=dry-run")
    dry.stdout.fnmatch_lines("dry run: 8 of 8 runs of 1 jobs *")
    counted.run(f"--resume={sweep.stem}")
    assert counted.asked() == 8
    assert {result["status"] for result in counted.results()} == {"scored"}
    assert counted.jobs() == [job]


def test_preparing_asks_each_part_once_and_runs_nothing(counted: Project) -> None:
    with open(counted.path / "conftest.py", "a") as conftest:
        conftest.write(
            "\ndef prepare(self, progress):\n"
            "    progress('fetching')\n"
            "    with open('prepared.txt', 'a') as file:\n"
            "        file.write(self.id + '\\n')\n"
            "Source.prepare = prepare\n"
        )
    result = counted.run(
        "evals",
        "--model=scripted:counted,scripted:deaf",
        "--benign",
        "--attack=shout",
        "--run-mode=prepare",
        "-n2",
    )
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        ["model 'scripted:counted': fetching", "prepared: * parts; no run was executed"]
    )
    prepared = (counted.path / "prepared.txt").read_text().split()
    assert prepared == ["scripted:counted", "scripted:deaf"]
    assert counted.asked() == 0
    assert not (counted.path / "jobs").exists()
    assert not (counted.path / ".pytest_cache/v/siren").exists()


def test_a_part_that_cannot_be_prepared_fails_the_session_and_no_other_part(
    counted: Project,
) -> None:
    with open(counted.path / "conftest.py", "a") as conftest:
        conftest.write(
            "\nasync def prepare(self, progress):\n"
            "    if self.id == 'scripted:deaf':\n"
            "        raise OSError('no network')\n"
            "    progress('built')\n"
            "Source.prepare = prepare\n"
        )
    result = counted.run("evals", "--model=scripted:deaf,scripted:counted", "--run-mode=prepare")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "model 'scripted:deaf': OSError: no network",
            "model 'scripted:counted': built",
            "prepared: * parts, 1 not: see above; no run was executed",
        ]
    )


def test_weights_that_are_there_are_not_fetched(counted: Project) -> None:
    from pytest_siren.models.weights import CATALOGUE, place

    weights = CATALOGUE["smollm2-135m"]
    if not place(weights).is_file():
        pytest.skip("the weights are not on this machine")
    result = counted.run("evals", f"--model=local:{weights.name}", "--run-mode=prepare")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines("model 'local:smollm2-135m': smollm2-135m: already at *")


@pytest.mark.inside
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--plan-only", "--run-mode=prepare"], "--plan-only and --run-mode prepare cannot be *"),
        (["--run-mode=dry_run", "--show-config"], "--run-mode dry-run and --show-config cannot *"),
        (["--plan-only", "--collect-only"], "--plan-only and --collect-only cannot be *"),
        (["--plan-only", "-n2", "--dist=each"], "--plan-only cannot be used with --dist each, *"),
        (["--run-mode=generate", "--lf"], "--run-mode generate-only cannot be used with --lf: *"),
        (["--run-mode=GENERATE_ONLY", "--resume=x"], "*cannot be used with --resume: *"),
    ],
)
def test_what_cannot_be_is_a_usage_error(project: Project, args: list[str], message: str) -> None:
    result = project.run("evals", *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(f"ERROR: {message}")


@pytest.mark.inside
def test_an_unknown_mode_names_the_known_ones(project: Project) -> None:
    result = project.run("evals", "--run-mode=dry")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        "*unknown mode 'dry'; known are normal, dry-run, generate-only, prepare"
    )


@pytest.mark.inside
@pytest.mark.parametrize("mode", MODES)
def test_a_file_that_is_no_eval_file_is_a_collection_error_as_ever(
    project: Project, mode: str
) -> None:
    project.write("evals/eval_bad.yaml", "dataset: {type: inline, config: {tasks: []}}\n")
    result = project.run("evals", mode)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert NOTHING not in result.stdout.str()


@pytest.mark.inside
def test_a_normal_mode_executes(project: Project) -> None:
    assert project.run("evals", "--run-mode=Normal").ret == pytest.ExitCode.OK
    assert len(project.results()) == 2


@pytest.mark.inside
def test_other_tests_are_counted_and_not_executed(project: Project) -> None:
    project.write("test_plain.py", "def test_plain():\n    open('ran', 'w').close()\n")
    result = project.run("evals", "test_plain.py", "--run-mode=dry-run")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines("1 other tests: not executed")
    assert not (project.path / "ran").exists()
