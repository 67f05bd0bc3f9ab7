"""What people who come from prompt-siren type, and the job folders that they bring (P1 to P34)."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.acceptance.conftest import EVAL_MAIL, Project
from tests.unit.theirs_sample import TheirJob

pytestmark = pytest.mark.inside

MAIL = yaml.safe_load(EVAL_MAIL)["dataset"]
ATTACK = {
    "type": "template_string",
    "config": {"attack_template": "Please {{ goal }}!", "template_short_name": "please"},
}
COUPLES = [f"{one}:{other}" for one in ("summary", "reply") for other in ("advert", "link")]


def test_siren_run_is_pytest(project: Project) -> None:
    """P3, P4, P8, P9: in a process of its own, with presets beside the file."""
    project.write("config/config.yaml", "agent: {config: {model: 'scripted:echo'}}\n")
    project.write("config/dataset/mail.yaml", yaml.safe_dump(MAIL))
    project.write("config/attack/please.yaml", yaml.safe_dump(ATTACK))
    given = ["+dataset=mail", "+attack=please", "--", "-p", "no:xdist"]
    found = project.python("-m", "pytest_siren", "run", "attack", *given)
    assert found.ret == pytest.ExitCode.TESTS_FAILED
    assert [one["task_id"] for one in project.results()] == sorted(COUPLES)
    assert {one["attack"] for one in project.results()} == {"please"}


def test_show_config_shows_each_job_and_runs_nothing(project: Project) -> None:
    """P15, P16."""
    result = project.run("evals", "--attack=direct", "--benign", "--show-config", "-q")
    assert result.ret == pytest.ExitCode.OK
    text = result.stdout.str().partition("---\n")[2].partition("\n6 tests collected")[0]
    documents = list(yaml.safe_load_all(text))
    assert [one["attack_name"] for one in documents] == [None, "direct"]
    assert documents[0]["agent"]["config"]["model"] == "scripted:echo"
    assert not project.jobs()


def test_show_config_still_reports_what_is_wrong(project: Project) -> None:
    """P15."""
    project.write("evals/eval_bad.yaml", "rnus: 1\n")
    result = project.run("evals", "--show-config")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*unknown key 'rnus'*"])


def their_job(project: Project, *, runs: int = 1) -> TheirJob:
    (project.path / "evals/eval_mail.yaml").unlink()
    return TheirJob(project.path / "jobs/theirs", ATTACK, MAIL, "scripted:echo", runs=runs)


def test_their_job_is_continued_and_no_line_is_lost(project: Project) -> None:
    """P34, P47: what is scored stays; what was cancelled, and what is missing, is executed."""
    job = their_job(project)
    job.record("summary:advert", attack=1.0)
    job.record("summary:link", error="CancelledError", attack=0.0)
    job.record("reply:advert", error="ModelHTTPError", attack=0.0)
    index = job.path / "index.jsonl"
    before = index.read_bytes()
    listed = project.run("--resume", "theirs", "--collect-only")
    listed.stdout.fnmatch_lines(["--resume theirs: theirs: 4 runs, 1 scored, 1 pending, 1 canc*"])
    assert index.read_bytes() == before
    result = project.run("--resume", "theirs")
    result.stdout.fnmatch_lines(["recorded: 2 of 4 runs, not executed again"])
    assert index.read_bytes().startswith(before)
    added = [json.loads(line) for line in index.read_bytes()[len(before) :].splitlines()]
    assert sorted(line["task_id"] for line in added) == ["reply:link", "summary:link"]
    assert {line["task_id"]: line["attempt"] for line in added} == {
        "reply:link": 1,
        "summary:link": 2,
    }
    again = project.run("--resume", "theirs", "--retry-on-error=ModelHTTPError")
    again.stdout.fnmatch_lines(["recorded: 3 of 4 runs, not executed again"])
    done = project.run("--resume", "theirs", "--siren-no-progress")
    done.stdout.fnmatch_lines(["recorded: 4 of 4 runs, not executed again"])
    assert index.read_bytes().startswith(before)
    config = yaml.safe_load((job.path / "config.yaml").read_text())
    assert config["execution_mode"] == "attack"
    assert config["schema_version"] == 1


@pytest.mark.nightly
@pytest.mark.parametrize("dist", ["-n2"], indirect=True)
def test_their_job_is_continued_by_several_processes(project: Project, dist: list[str]) -> None:
    project.args = dist
    job = their_job(project, runs=2)
    for score in (1.0, 0.0):
        job.record("summary:advert", attack=score)
    job.record("summary:link", attack=1.0)
    result = project.run("--resume", "theirs")
    result.stdout.fnmatch_lines(["recorded: 3 of 8 runs, not executed again"])


def test_their_job_that_makes_no_job_here_is_refused(project: Project) -> None:
    job = their_job(project)
    path = job.path / "config.yaml"
    path.write_text(re.sub('"?type"?: "?plain"?', "type: swe", path.read_text()))
    result = project.run("--resume", "theirs")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --resume theirs: jobs/theirs/config.yaml:*unknown agent*"])


def test_their_job_is_run_anew_and_replayed(project: Project) -> None:
    """``config.yaml`` as an eval file, and ``replay:``."""
    job = their_job(project)
    for couple in COUPLES:
        contents = {"note": f"Please {'say' if 'advert' in couple else 'print'}!"}
        job.record(couple, attack=0.0, texts=[f"ZEPPELIN for {couple}"], attacks=contents)
    new: Any = project.run(str(job.path / "config.yaml"), "--job-name=new")
    new.stdout.fnmatch_lines(["collected 4 items"])
    replayed = project.run(
        *(str(job.path / "config.yaml"), "--model", f"replay:{job.path}"),
        *("--attack=recorded", "--job-name=replayed"),
    )
    replayed.stdout.fnmatch_lines(["collected 4 items"])
    paths = (project.path / "jobs/replayed").glob("*/*/result.json")
    results = [json.loads(path.read_text()) for path in paths]
    found = {one["task_id"]: (one["output"], one["attack_score"]) for one in results}
    assert found["summary:advert"] == ("ZEPPELIN for summary:advert", 1.0)
    assert Path(job.path / "index.jsonl").read_text().count("\n") == 4


def rewritten(job: Path) -> None:
    """Write the ``config.yaml`` of ``job`` as prompt-siren does: without what it does not know."""
    path = job / "config.yaml"
    known = yaml.safe_load((TheirJob(job.parent / "known").path / "config.yaml").read_text())
    shutil.rmtree(job.parent / "known")
    values = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({key: values.get(key) for key in known}))


@pytest.mark.parametrize("finish", ["", "finish: {length: score}\n"])
def test_a_job_that_prompt_siren_rewrote_is_the_same_or_refused(
    project: Project, finish: str
) -> None:
    """P34: its runs are not executed again, in any case not without a word."""
    mail = project.path / "evals/eval_mail.yaml"
    mail.write_text(mail.read_text() + finish)
    project.run("evals", "--attack=template_string", "--job-name=ours")
    job = project.path / "jobs/ours"
    index = (job / "index.jsonl").read_bytes()
    rewritten(job)
    result = project.run("--resume", "ours")
    if finish:
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(
            ["ERROR: --resume ours: jobs/ours/config.yaml describes another*of 4 recorded runs*"]
        )
    else:
        result.stdout.fnmatch_lines(["recorded: 4 of 4 runs, not executed again"])
    assert (job / "index.jsonl").read_bytes() == index
