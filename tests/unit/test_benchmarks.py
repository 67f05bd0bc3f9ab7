"""The server that benchmarks and tests run against, and how figures become results."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx2
import openai
import pytest
from benchmarks.course import Course, Sampled, Throughput
from benchmarks.coverage import shown
from benchmarks.faults import parse
from benchmarks.growth import Growth, above
from benchmarks.inflight import InFlight
from benchmarks.recorded import RUNS_PER_JOB, write_jobs
from benchmarks.report import Report, Target, write
from benchmarks.serving import Serving, serving
from benchmarks.simulation import Cell, Coverage

from pytest_siren.jobs.frame.table import read_runs
from pytest_siren.models.ratelimit.limiter import RateLimiter
from pytest_siren.session.recording.shared_folder import SessionFolder

CALLS = [("get_day", {}), ("search", {"query": "lunch"})]


def ask(server: Serving, results: int = 0) -> httpx2.Response:
    messages = [{"role": "user", "content": '"role":"tool"'}]
    messages += [{"role": "tool", "content": "{}"}] * results
    return httpx2.post(f"{server.url}/chat/completions", json={"messages": messages})


def test_calls_each_tool_in_its_turn_and_then_closes() -> None:
    with serving(0.0, CALLS) as server:
        choices = [ask(server, results).json()["choices"][0] for results in range(3)]
    called = [choice["message"]["tool_calls"][0]["function"] for choice in choices[:2]]
    assert [call["name"] for call in called] == ["get_day", "search"]
    assert called[1]["arguments"] == '{"query": "lunch"}'
    assert choices[2]["message"]["content"] == "Done."
    assert choices[2]["finish_reason"] == "stop"


@pytest.mark.nightly
def test_answers_the_sdk_on_both_apis_side_by_side() -> None:
    async def both(server: Serving) -> tuple[str | None, str]:
        async with openai.AsyncOpenAI(base_url=server.url, api_key="none") as client:
            chat, response = await asyncio.gather(
                client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": "Hi"}]
                ),
                client.responses.create(model="m", input="Hi"),
            )
        return chat.choices[0].message.content, response.output_text

    with serving(0.2) as server:
        assert asyncio.run(both(server)) == ("Done.", "Done.")
        stats = server.reset()
        assert stats["most_in_flight"] == 2
        assert 0.2 <= stats["last_answered"] - stats["first_received"]
        assert server.stats()["requests"] == 0


@pytest.mark.nightly
def test_faults_are_the_shares_that_were_asked_for() -> None:
    with serving(0.0, [], "--faults", "429=0.5,500=0.25", "--retry-after", "2") as server:
        answers = [ask(server) for _ in range(200)]
        stats = server.stats()
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.headers["retry-after"] for answer in refused} == {"2"}
    assert 70 <= len(refused) == stats["faults"]["429"] <= 130
    assert 25 <= stats["faults"]["500"] <= 75
    assert stats["answered"] + sum(stats["faults"].values()) == stats["requests"] == 200


@pytest.mark.nightly
def test_an_exhausted_quota_and_a_cut_connection() -> None:
    with serving(0.0, [], "--faults", "quota=1") as server:
        assert ask(server).json()["error"]["code"] == "insufficient_quota"
    with serving(0.0, [], "--faults", "reset=1") as server, pytest.raises(httpx2.NetworkError):
        ask(server)


@pytest.mark.nightly
def test_faults_end_after_their_time() -> None:
    with serving(0.0, [], "--faults", "500=1", "--faults-for", "0") as server:
        assert [ask(server).status_code for _ in range(2)] == [500, 200]


@pytest.mark.nightly
def test_faults_begin_after_their_time_and_every_request_is_noted() -> None:
    faults = ("--faults=500=1", "--faults-from=0.2", "--trace")
    with serving(0.0, [], *faults) as server:
        statuses = [ask(server).status_code]
        time.sleep(0.25)
        statuses.append(ask(server).status_code)
        noted = server.trace()
        server.reset()
        assert server.trace() == []
    assert statuses == [200, 500]
    assert [(number, fault) for _, number, fault in noted] == [(1, ""), (0, "500")]
    assert noted[1][0] - noted[0][0] >= 0.2


def arrivals(start: float, end: float, rate: float) -> list[float]:
    return [start + number / rate for number in range(round((end - start) * rate))]


def test_the_recovery_ends_with_the_first_second_that_is_as_good_as_before() -> None:
    disturbed = [*arrivals(0.0, 10.0, 50.0), *arrivals(10.0, 17.0, 20.0)]
    rate = Throughput([*disturbed, *arrivals(17.0, 40.0, 50.0)], 0.1)
    course = Course(rate, 10.0, 15.0, rate.tail)
    assert course.before == pytest.approx(50.0, rel=0.02)
    assert course.during == pytest.approx(20.0, rel=0.02)
    # Two seconds after the faults it is as before; a tenth of the second may be worse.
    assert course.recovery == pytest.approx(3.0, abs=0.25)
    assert course.after == pytest.approx(50.0, rel=0.02)
    rate = Throughput([*disturbed, *arrivals(17.0, 40.0, 20.0)], 0.1)
    never = Course(rate, 10.0, 15.0, rate.tail)
    assert (never.recovery, never.after) == (None, 0.0)


def test_requests_that_come_and_go_together_are_no_higher_throughput() -> None:
    rate = Throughput([1.1 * wave for wave in range(40) for _ in range(64)], 1.0)
    rates = [rate(20.0 + 0.1 * step, 21.0 + 0.1 * step) for step in range(20)]
    assert max(rates) <= 64.001
    assert min(rates) >= 0.89 * 64.0


def test_requests_in_flight_are_looked_at_on_the_sessions_own_board(tmp_path: Path) -> None:
    folder = SessionFolder(tmp_path / "pytest-siren-1")
    with InFlight(tmp_path, "a:model") as watch:
        watch(0.0)
        budget = RateLimiter(folder.board().key("a:model"), ceiling=4)
        for moment in range(4):
            asyncio.run(budget.acquire())
            watch(float(moment))
    assert [number for _, number in watch.samples] == [2, 3, 4]
    assert Sampled(watch.samples)(0.0, watch.samples[-1][0] + 1.0) == 3.0


@pytest.mark.parametrize(
    ("text", "message"),
    [("404=1", "unknown fault '404'; known: 429, 500, reset, quota"), ("429=0.7,500=0.7", "0..1")],
)
def test_wrong_faults_are_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_linear_growth_has_the_exponent_one() -> None:
    linear = Growth({1_000: 2.0, 10_000: 20.0, 100_000: 200.0})
    assert (round(linear.exponent, 6), round(linear.last_step, 6)) == (1.0, 1.0)
    quadratic = Growth({1_000: 1.0, 10_000: 100.0, 100_000: 10_000.0})
    assert (round(quadratic.exponent, 6), round(quadratic.last_step, 6)) == (2.0, 10.0)
    assert above({10: 105.0, 20: 110.0, 40: 120.0}, 10).last_step == pytest.approx(1.0)


def test_a_section_of_the_results_is_replaced_and_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "results.md"
    for name, figure in (("throughput", 1.5), ("scale", 3.0), ("throughput", 1.01)):
        report = Report(name, ["2 cores"])
        report.target(Target(f"work of {name}", figure, 1.05, "x ideal"))
        write(report, path)
    text = path.read_text()
    assert "| work of throughput | 1.01 x ideal | ≤ 1.05 x ideal | met |" in text
    assert "| work of scale | 3.00 x ideal | ≤ 1.05 x ideal | **not met** |" in text
    assert "1.50" not in text


def test_results_hold_no_paths_of_the_machine() -> None:
    error = ValueError("pip exited with 1: no /home/somebody/.cache/file here\nmore")
    assert Report("scale", []).problem(error) == "pip exited with 1: no ... here"


@pytest.mark.nightly
def test_the_recorded_jobs_that_are_measured_are_whole(tmp_path: Path) -> None:
    write_jobs(tmp_path, RUNS_PER_JOB + 300)
    found = read_runs(sorted(tmp_path.iterdir()))
    assert found.problems == []
    assert found.runs["job"].value_counts().to_list() == [RUNS_PER_JOB, 300]
    assert set(found.runs["status"]) == {"scored", "error"}
    assert found.runs["attempts"].max() == 2


def test_a_share_is_emphasised_only_where_it_is_out_of_bounds_for_certain() -> None:
    rare, common = Cell(20, 1, 0.01), Cell(100, 1, 0.5)
    assert shown(common, Coverage(0.951, 0.002, 0.2)) == "95.1"
    assert shown(common, Coverage(0.981, 0.002, 0.2)) == "98.1"
    assert shown(common, Coverage(0.985, 0.002, 0.2)) == "**98.5**"
    assert shown(rare, Coverage(0.991, 0.002, 0.2)) == "(99.1)"
    assert shown(rare, Coverage(0.921, 0.002, 0.2)) == "**92.1**"
