"""Runs side by side in one process, and under xdist."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from tests.acceptance.conftest import Project
from tests.acceptance.slow import eval_file

MODES = {
    "no-xdist": ["-p", "no:xdist"],
    "n2": ["-n2"],
    "worksteal": ["-n2", "--dist", "worksteal"],
    "loadgroup": ["-n2", "--dist", "loadgroup"],
}


@pytest.fixture(
    params=[
        "no-xdist",
        *(pytest.param(mode, marks=pytest.mark.nightly) for mode in list(MODES)[1:]),
    ]
)
def modes(request: pytest.FixtureRequest, slow: Project) -> Project:
    """The same, in every way of distribution that matters here."""
    slow.args = MODES[request.param]
    return slow


def order(result: pytest.RunResult) -> list[str]:
    """Return the task ids of a verbose session in the order in which they were reported."""
    return re.findall(
        r"::(\w+)\[.*(?:PASSED|FAILED|ERROR)|(?:PASSED|FAILED).*::\w+\[", str(result.stdout)
    )


@pytest.mark.inside
def test_runs_are_reported_in_the_order_in_which_they_end(slow: Project) -> None:
    slow.write("eval_a.yaml", eval_file({"late": 1.5, "middle": 0.8, "early": 0.1}))
    result = slow.run("-p", "no:xdist", "-v")
    result.assert_outcomes(passed=3)
    assert order(result) == ["early", "middle", "late"]


@pytest.mark.inside
def test_runs_wait_side_by_side(modes: Project) -> None:
    modes.write("eval_a.yaml", eval_file({f"t{i}": 1.0 for i in range(24)}))
    result = modes.run("--concurrency", "24", "--junitxml", "junit.xml", "--durations", "3")
    result.assert_outcomes(passed=24)
    suite = ElementTree.parse(modes.path / "junit.xml").getroot()[0]
    cases = suite.findall("testcase")
    assert len(cases) == 24
    assert all(float(case.attrib["time"]) > 0.9 for case in cases)
    result.stdout.re_match_lines(
        [r"=+ slowest 3 durations =+", r"[1-9]\.\d+s call +eval_a.yaml::t"]
    )
    results = modes.results()
    assert len(results) == 24
    assert all(one["duration"] > 0.9 for one in results)
    spans = [(one["started_at"], one["finished_at"]) for one in results]
    assert max(sum(start <= at < end for start, end in spans) for at, _ in spans) >= 8


@pytest.mark.inside
def test_no_more_runs_are_in_flight_than_concurrency_allows(slow: Project) -> None:
    slow.write("eval_a.yaml", eval_file({f"t{i}": 0.2 for i in range(9)}))
    slow.write("pytest.ini", "[pytest]\nsiren_concurrency = 3\n")
    slow.run("-p", "no:xdist").assert_outcomes(passed=9)
    spans = [(one["started_at"], one["finished_at"]) for one in slow.results()]
    most = max(sum(start <= at < end for start, end in spans) for at, _ in spans)
    assert most == 3


@pytest.mark.inside
def test_the_next_request_leaves_before_the_record_is_written(slow: Project) -> None:
    with open(slow.path / "conftest.py", "a", encoding="utf-8") as conftest:
        conftest.write(
            """
def pytest_siren_attempt_record(attempt):
    with open("asked.txt", "a") as file:
        file.write(f"{attempt.run.task_id} recorded\\n")
"""
        )
    slow.write("eval_a.yaml", eval_file({"a": 0.1, "b": 0.1, "c": 0.1}))
    slow.run("-p", "no:xdist", "--concurrency", "1").assert_outcomes(passed=3)
    lines = (slow.path / "asked.txt").read_text().splitlines()
    assert lines == ["a", "b", "a recorded", "c", "b recorded", "c recorded"]


@pytest.mark.inside
def test_a_job_has_its_own_concurrency(slow: Project) -> None:
    one = eval_file({f"a{i}": 0.2 for i in range(4)}) + "execution: {concurrency: 1}\n"
    slow.write("eval_a.yaml", one)
    slow.write("eval_b.yaml", eval_file({f"b{i}": 0.2 for i in range(8)}))
    slow.run("-p", "no:xdist").assert_outcomes(passed=12)
    spans = [(one["started_at"], one["finished_at"], one["task_id"][0]) for one in slow.results()]
    most = max(
        sum(start <= at < end for start, end, job in spans if job == "a") for at, _, _ in spans
    )
    assert most == 1
    firsts = {job: min(start for start, _, other in spans if other == job) for job in "ab"}
    lasts = {job: max(end for _, end, other in spans if other == job) for job in "ab"}
    assert firsts["b"] < lasts["a"], "the other job has to wait for nothing"


@pytest.mark.inside
@pytest.mark.parametrize(
    "modes",
    [
        *("no-xdist", "n2"),
        *(pytest.param(mode, marks=pytest.mark.nightly) for mode in ("worksteal", "loadgroup")),
    ],
    indirect=True,
)
def test_exitfirst_reports_one_failure_and_leaves_the_rest_pending(modes: Project) -> None:
    modes.write("eval_a.yaml", eval_file({"bad": 0.3} | {f"t{i}": 30.0 for i in range(20)}))
    result = modes.run("-x", "--concurrency", "4")
    result.assert_outcomes(failed=1)
    assert result.ret == (pytest.ExitCode.TESTS_FAILED if modes.args[0] == "-p" else 2)
    result.stdout.fnmatch_lines(["*stopping after 1 failures*"])
    result.stdout.re_match_lines([r"pending: 20 of 21 runs, \d of them cancelled in flight"])
    statuses = [one["status"] for one in modes.results()]
    assert statuses.count("scored") == 1
    assert 1 <= statuses.count("cancelled") <= 8


@pytest.mark.inside
def test_maxfail_counts_failures_and_no_more_are_reported(slow: Project) -> None:
    tasks = {f"bad{i}": 0.1 for i in range(8)} | {f"t{i}": 20.0 for i in range(8)}
    slow.write("eval_a.yaml", eval_file(tasks))
    result = slow.run("-p", "no:xdist", "--maxfail", "3", "--concurrency", "16")
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(["*stopping after 3 failures*"])
    found = re.search(r"pending: (\d+) of 16 runs, \1 of them cancelled", result.stdout.str())
    assert found is not None
    # The other five that fail may have ended as well, though they are not reported.
    assert 8 <= int(found[1]) <= 13


@pytest.mark.nightly
@pytest.mark.inside
def test_maxfail_under_xdist_stops_all_workers(slow: Project) -> None:
    tasks = {f"bad{i}": 0.1 for i in range(3)} | {f"t{i}": 60.0 for i in range(16)}
    slow.write("eval_a.yaml", eval_file(tasks))
    result = slow.run("-n2", "--maxfail", "3", "--concurrency", "8")
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(["*stopping after 3 failures*"])


@pytest.mark.inside
def test_a_run_that_takes_too_long_is_an_error(modes: Project) -> None:
    modes.write("eval_a.yaml", eval_file({"endless": 600.0, "quick": 0.1}))
    result = modes.run("--siren-run-timeout", "1")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["*RunTimeoutError: the run took longer than 1 s (--siren-run-timeout)*"]
    )
    endless, quick = modes.results()
    assert (endless["status"], quick["status"]) == ("error", "scored")
    assert endless["duration"] > 0.9


@pytest.mark.inside
def test_a_call_that_blocks_its_thread_does_not_keep_others_waiting(slow: Project) -> None:
    tasks = {f"t{i}": 1.0 for i in range(20)}
    slow.write("eval_a.yaml", eval_file(tasks, model="slow:blocking"))
    result = slow.run("-p", "no:xdist", "--concurrency", "20")
    result.assert_outcomes(passed=20)
    spans = [(one["started_at"], one["finished_at"]) for one in slow.results()]
    assert max(sum(start <= at < end for start, end in spans) for at, _ in spans) > 6


def test_a_blocked_thread_does_not_keep_the_session_from_ending(slow: Project) -> None:
    slow.write("eval_a.yaml", eval_file({"stuck": 1000.0}, model="slow:blocking"))
    result = slow.run("-p", "no:xdist", "--siren-run-timeout", "0.5")
    result.assert_outcomes(errors=1)


@pytest.mark.inside
def test_a_tool_that_blocks_does_not_keep_others_waiting(project: Project) -> None:
    project.write(
        "tools.py",
        "import time\n\ndef lookup(query: str) -> str:\n"
        '    """Look it up."""\n    time.sleep(1)\n    return query\n',
    )
    tasks = "".join(
        f"      - {{id: t{i}, prompt: hi, evaluators: {{e: {{type: contains, value: said}}}}}}\n"
        for i in range(12)
    )
    project.write(
        "evals/eval_mail.yaml",
        "dataset:\n  type: inline\n  config:\n    name: blocking\n"
        f"    tools: ['tools:lookup']\n    tasks:\n{tasks}"
        "agent: {config: {model: 'scripted:call-lookup'}}\n",
    )
    result = project.run("-p", "no:xdist")
    result.assert_outcomes(passed=12)
    spans = [(one["started_at"], one["finished_at"]) for one in project.results()]
    assert max(sum(start <= at < end for start, end in spans) for at, _ in spans) > 6


@pytest.mark.inside
def test_what_a_run_prints_belongs_to_it(slow: Project) -> None:
    slow.write("eval_a.yaml", eval_file({"bad": 0.2, "good": 0.1}))
    result = slow.run("-p", "no:xdist", "-v")
    result.assert_outcomes(passed=1, failed=1)
    text = str(result.stdout)
    assert "answering bad" in text
    assert "answering good" not in text


@pytest.mark.inside
def test_collect_only_runs_nothing(slow: Project) -> None:
    slow.write("eval_a.yaml", eval_file({"a": 0.1, "b": 0.1}))
    result = slow.run("--collect-only", "-q", "-n2")
    result.stdout.fnmatch_lines(["eval_a.yaml::a[[]*", "eval_a.yaml::b[[]*", "2 tests collected*"])
    assert not slow.jobs()


@pytest.mark.inside
@pytest.mark.parametrize(
    "dist",
    [
        *("load", "worksteal"),
        *(pytest.param(mode, marks=pytest.mark.nightly) for mode in ("loadscope", "loadgroup")),
    ],
)
def test_every_dist_mode_runs_everything_once(slow: Project, dist: str) -> None:
    for name in "abc":
        slow.write(f"eval_{name}.yaml", eval_file({f"{name}{i}": 0.01 for i in range(20)}))
    result = slow.run("-n2", "--dist", dist, "--concurrency", "4")
    result.assert_outcomes(passed=60)
    assert len({one["task_id"] for one in slow.results()}) == len(slow.results()) == 60


@pytest.mark.inside
def test_each_worker_has_its_own_job_with_dist_each(slow: Project) -> None:
    slow.write("eval_a.yaml", eval_file({f"t{i}": 0.01 for i in range(5)}))
    result = slow.run("-n2", "--dist", "each")
    result.assert_outcomes(passed=10)
    assert [len(list(job.glob("*/*/result.json"))) for job in slow.jobs()] == [5, 5]
