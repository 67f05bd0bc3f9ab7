"""A model API that refuses and fails: a real server on the loopback, over a real client library."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.acceptance.conftest import Project
from tests.acceptance.servers import StartServer
from tests.acceptance.slow import eval_file


def tasks(count: int) -> str:
    return eval_file({f"t{index:03}": 0 for index in range(count)}, model="openai-chat:gpt-4o-mini")


@pytest.mark.inside
@pytest.mark.parametrize(
    "shape",
    [["-p", "no:xdist", "--concurrency=16"], ["-n2", "--concurrency=8"]],
    ids=["no-xdist", "n2"],
)
def test_refusals_and_faults_cost_time_and_no_run(
    project: Project, serve: StartServer, shape: list[str]
) -> None:
    server = serve(
        "--latency=0.3",
        "--text=wait",
        "--faults=429=0.3,500=0.03,reset=0.02",
        "--faults-for=1.5",
        "--retry-after=1",
        "--trace",
    )
    project.write("evals/eval_mail.yaml", tasks(220))
    result = project.run(*shape)
    result.assert_outcomes(passed=220)
    results = project.results()
    assert [one["status"] for one in results] == ["scored"] * 220
    stats = server.stats()
    assert stats["answered"] == 220
    assert stats["requests"] <= 1.3 * 220
    retries = [retry for one in results for retry in one["retries"]]
    # What the server refused is what was recorded as sent again.
    assert len(retries) == stats["requests"] - 220 > 0
    assert Counter(retry["status"] for retry in retries)[429] > 0
    waited = [retry["waited"] for retry in retries if retry["status"] == 429]
    assert min(waited) >= 1.0
    trace = server.trace()
    late_in_the_faults = [number for at, number, _ in trace if 1.0 < at < 1.5]
    after_the_faults = [number for at, number, _ in trace if at > 1.5]
    assert max(late_in_the_faults, default=0) < max(after_the_faults) == 16


@pytest.mark.parametrize(
    "dist",
    [["-p", "no:xdist"], pytest.param(["-n2"], marks=pytest.mark.nightly)],
    ids=["no-xdist", "n2"],
)
def test_an_exhausted_quota_ends_the_session_with_one_message(
    project: Project, serve: StartServer, dist: list[str]
) -> None:
    server = serve("--latency=0.1", "--faults=quota=1")
    project.write("evals/eval_mail.yaml", tasks(200))
    with open(project.path / "conftest.py", "a", encoding="utf-8") as conftest:
        # Nothing takes the place of such a run, however long its record needs to reach the disk.
        conftest.write(
            "\nfrom pytest_siren.session.recording import recorder\n\nrecorder._LINGER = 0.5\n"
        )
    result = project.run("evals", *dist, "--concurrency", "8")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    text = str(result.stdout)
    assert text.count("openai-chat:gpt-4o-mini") == 1
    assert re.search(r"! .*Interrupted: model 'openai-chat:gpt-4o-mini': .*quota.* !", text)
    assert "200 runs" in text
    assert server.stats()["requests"] <= (8 if dist == ["-p", "no:xdist"] else 16)


@pytest.mark.inside
def test_a_wrong_address_is_no_reason_to_wait_for_ever(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a key")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    project.write("evals/eval_mail.yaml", tasks(3).replace("openai-chat:", "nosuchprovider:"))
    result = project.run("-p", "no:xdist")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        ["*Interrupted: model 'nosuchprovider:gpt-4o-mini': Unknown model*"]
    )


@pytest.mark.inside
def test_requests_a_minute_are_a_cap_of_all_processes(project: Project, serve: StartServer) -> None:
    server = serve("--latency=0.01", "--text=wait")
    project.write("evals/eval_mail.yaml", tasks(12))
    # A request every half second: the last of twelve leaves after five and a half seconds.
    result = project.run("-n2", "--siren-rpm", "120")
    result.assert_outcomes(passed=12)
    stats = server.stats()
    assert stats["last_received"] - stats["first_received"] >= 4.5


@pytest.mark.inside
def test_a_run_that_waits_for_a_rate_limit_does_not_time_out(
    project: Project, serve: StartServer
) -> None:
    serve("--text=wait", "--faults=429=1", "--faults-for=0.5", "--retry-after=3")
    project.write("evals/eval_mail.yaml", tasks(1))
    result = project.run("-p", "no:xdist", "--siren-run-timeout=2")
    result.assert_outcomes(passed=1)
    (found,) = project.results()
    assert found["duration"] > 2.5
    assert [retry["status"] for retry in found["retries"]] == [429]
