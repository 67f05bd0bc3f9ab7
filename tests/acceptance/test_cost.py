"""What evaluations cost, and how that is limited."""

from __future__ import annotations

import json
import re

import pytest

from pytest_siren.session.config import options
from tests.acceptance.conftest import SCRIPTED_MODELS, Project, with_workers

pytestmark = pytest.mark.inside

PAID_MODELS = (
    SCRIPTED_MODELS.replace("scripted", "paid").replace(
        "return FunctionModel(lambda messages, info: ModelResponse(answer(self._how, messages)))",
        "return Paid(self._how)",
    )
    + """

from pydantic_ai.usage import RequestUsage


class Paid(FunctionModel):
    def __init__(self, how):
        super().__init__(self.reply)
        self._how = how

    async def request(self, *args):
        response = await super().request(*args)
        if self._how.startswith("listed"):
            response.model_name, response.provider_name = "gpt-5", "openai"
        return response

    def reply(self, messages, info):
        usage = RequestUsage(input_tokens=10_000, output_tokens=1_000)
        if self._how == "listed-crash" and len(messages) > 1:
            raise RuntimeError("the model is on fire")
        if self._how.startswith("listed-") and len(messages) < 5:
            return ModelResponse([ToolCallPart("none", {}, "c1")], usage=usage)
        return ModelResponse([TextPart("noon, report")], usage=usage)
"""
)
EACH = 0.0225
"""US dollars of one answer of gpt-5."""

wired = pytest.mark.skipif(
    not hasattr(options, "add_cost_options"), reason="the session has no options of cost yet"
)


@pytest.fixture(params=["no-xdist", pytest.param("-n2", marks=pytest.mark.nightly)])
def dist(request: pytest.FixtureRequest) -> list[str]:
    """The ways of distribution that handle money differently."""
    return ["-p", "no:xdist"] if request.param == "no-xdist" else [request.param]


@pytest.fixture
def paid(distributed: Project) -> Project:
    """A project with a model whose answers tell their tokens."""
    (distributed.path / "conftest.py").write_text(PAID_MODELS)
    return distributed


def test_what_the_runs_cost_is_recorded_and_summed_up(paid: Project) -> None:
    result = paid.run("evals", "--benign", "--model=paid:listed,paid:listed-thrice")
    result.assert_outcomes(passed=4)
    costs = sorted(found["cost"] for found in paid.results())
    assert costs == pytest.approx([EACH, EACH, 3 * EACH, 3 * EACH])
    lines = [line for job in paid.jobs() for line in (job / "index.jsonl").read_text().splitlines()]
    assert sorted(json.loads(line)["cost"] for line in lines) == costs
    result.stdout.fnmatch_lines(
        [
            "mail | plain | paid:listed | benign",
            "  tokens 20,000 in, 2,000 out   cost $0.0450   wall time *",
            "mail | plain | paid:listed-thrice | benign",
            "  tokens 60,000 in, 6,000 out   cost $0.1350   wall time *",
            "session | 2 jobs",
            "  runs 4   errors 0",
            "  tokens 80,000 in, 8,000 out   cost $0.1800   wall time *",
        ]
    )


def test_a_model_without_a_price_is_named(paid: Project) -> None:
    result = paid.run("evals", "--model=paid:unlisted")
    result.assert_outcomes(passed=2)
    assert [found["cost"] for found in paid.results()] == [None, None]
    result.stdout.fnmatch_lines(["  tokens 20,000 in*   cost unknown (no price for paid:unlisted)"])


def test_a_model_that_costs_nothing_says_nothing_of_cost(paid: Project) -> None:
    result = paid.run("evals", "--attack=template_string", "--model=control:hijacked")
    assert {found["cost"] for found in paid.results()} == {0}
    assert not re.search(r"\bcost (\$|unknown|at least)", result.stdout.str())


def test_the_answers_before_an_error_are_paid_for(paid: Project) -> None:
    paid.run("evals", "--model=paid:listed-crash").assert_outcomes(errors=2)
    for found in paid.results():
        assert found["exception_info"]["exception_type"] == "RuntimeError"
        assert found["cost"] == pytest.approx(EACH)
        assert found["usage"]["input_tokens"] == 10_000


PRICES = "paid:*: {input_mtok: 10, output_mtok: 100}\n"
"""20 cents per answer."""


@wired
def test_a_price_of_ones_own_comes_first(paid: Project) -> None:
    paid.write("prices.yaml", PRICES)
    result = paid.run("evals", "--model=paid:listed", "--siren-prices=prices.yaml")
    result.assert_outcomes(passed=2)
    assert [found["cost"] for found in paid.results()] == pytest.approx([0.2, 0.2])
    result.stdout.fnmatch_lines(["*cost $0.4000*"])


@wired
def test_a_file_of_prices_that_is_wrong_is_a_usage_error(paid: Project) -> None:
    paid.write("prices.yaml", "paid:*: {input_mtok: 10, output_mtk: 100}\n")
    result = paid.run("evals", "--siren-prices=prices.yaml")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "ERROR: prices.yaml:1: unknown key 'output_mtk' in [[]'paid:[*]'] "
            "(did you mean 'output_mtok'[?])"
        ]
    )


@wired
def test_a_run_that_passes_its_limit_is_an_error(paid: Project) -> None:
    paid.write("prices.yaml", PRICES)
    result = paid.run(
        "evals",
        "--model=paid:listed-thrice",
        "--siren-prices=prices.yaml",
        "--set=+usage_limits.cost=0.3",
    )
    result.assert_outcomes(errors=2)
    for found in paid.results():
        assert found["exception_info"]["exception_type"] == "UsageLimitExceeded"
        assert found["cost"] == pytest.approx(0.4)


@wired
@pytest.mark.parametrize(
    ("option", "limit"),
    [
        ("--siren-max-cost=3.00", "--siren-max-cost 3.00"),
        ("--set=+usage_limits.cost=0.5", "usage_limits.cost 0.5 in evals/eval_mail.yaml"),
    ],
)
def test_a_model_without_a_price_is_refused_before_anything_runs(
    paid: Project, option: str, limit: str
) -> None:
    result = paid.run("evals", "--model=paid:unlisted", option)
    assert result.ret != pytest.ExitCode.OK
    assert paid.results() == []
    output = result.stdout.str() + result.stderr.str()
    assert (
        f"no price is known for the model 'paid:unlisted', so {limit} cannot be kept: "
        "give it a price with --siren-prices FILE, or drop the limit"
    ) in re.sub(r"\s+", " ", output)
    assert "Traceback" not in output


@wired
@with_workers
def test_no_new_runs_start_once_the_session_has_spent_its_limit(paid: Project) -> None:
    paid.write("prices.yaml", PRICES)
    result = paid.run(
        "evals",
        "--model=paid:listed",
        "--runs=50",
        "--concurrency=1",
        "--siren-prices=prices.yaml",
        "--siren-max-cost=1.00",
    )
    assert result.ret != pytest.ExitCode.OK
    done = len(paid.results())
    assert 5 <= done <= 5 + 2  # each of two processes may have one in flight
    result.stdout.fnmatch_lines(["*--siren-max-cost 1.00 reached: $1.?000 spent*"])
