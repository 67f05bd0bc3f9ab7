"""What an answer costs, by genai-prices and by a table of one's own."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from genai_prices import calc_price
from genai_prices.data_snapshot import get_snapshot
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.usage import RequestUsage

from pytest_siren.evaluation.accounts import Price, Prices
from pytest_siren.spec.errors import SpecError
from pytest_siren.spec.pricefile import read_prices

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def answer(model: str | None = "gpt-5", provider: str | None = "openai", **fields: Any) -> Any:
    usage = fields.pop("usage", {"input_tokens": 1_000_000, "output_tokens": 100_000})
    return ModelResponse(
        parts=[TextPart("x")],
        model_name=model,
        provider_name=provider,
        usage=RequestUsage(**usage),
        timestamp=fields.pop("timestamp", NOW),
        **fields,
    )


def price(dollars_in: float, dollars_out: float = 0, **more: Any) -> Price:
    return Price(input_mtok=dollars_in, output_mtok=dollars_out, **more)


def usages() -> list[dict[str, int]]:
    """Counts of a request as providers send them: plain, cached, with searches or with audio."""
    chance = random.Random(7)
    read, write = chance.randrange(1, 90_000), chance.randrange(500, 90_000)
    text = {"input_tokens": chance.randrange(200_000, 999_999), "output_tokens": 777}
    cached = {**text, "cache_read_tokens": read, "cache_write_tokens": write}
    return [
        {"input_tokens": 12, "output_tokens": 0},
        text,
        {**cached, "output_reasoning_tokens": 70},
        {**cached, "cache_write_1h_tokens": write - 400},
        {**text, "web_searches": 3},
        {**text, "input_audio_tokens": 9_000, "audio_seconds": 70},
    ]


def theirs(provider: str, model: str, given: Any) -> Decimal | None:
    try:
        price = calc_price(
            given.usage,
            model,
            provider_id=provider,
            genai_request_timestamp=given.timestamp,
            price_context=given.provider_details,
        )
    except ValueError:
        return None
    return price.total_price


def test_every_listed_model_costs_what_genai_prices_says() -> None:
    prices, priced = Prices(), 0
    listed = [(p.id, m.id) for p in get_snapshot().providers for m in p.models]
    assert len(listed) > 1_000
    for number, (provider, model) in enumerate(listed):
        for usage in usages()[number % 2 :: 2]:
            given = answer(model, provider, usage=usage)
            try:
                expected = theirs(provider, model, given)
            except LookupError:
                continue
            assert prices.of("component:x", given) == expected, (provider, model, usage)
            priced += 1
    assert priced > 3_000


@pytest.mark.parametrize("tier", ["default", "flex", "priority", "unheard-of", None])
def test_the_tier_of_the_service_counts(tier: str | None) -> None:
    prices = Prices()
    for usage in usages():
        given = answer(usage=usage, provider_details={"service_tier": tier})
        assert prices.of("openai:gpt-5", given) == theirs("openai", "gpt-5", given)
    assert prices.of("openai:gpt-5", answer(provider_details={"service_tier": "flex"})) == Decimal(
        "1.125"
    )
    assert prices.of("openai:gpt-5", answer()) == Decimal("2.25")


def test_the_day_of_the_answer_counts() -> None:
    prices, seen = Prices(), set()
    for year in (2024, 2025, 2026):
        given = answer("o3", timestamp=datetime(year, 7, 1, tzinfo=UTC))
        assert prices.of("openai:o3", given) == theirs("openai", "o3", given)
        seen.add(prices.of("openai:o3", given))
    assert len(seen) == 2


def test_the_address_counts_more_than_the_name_of_the_provider() -> None:
    given = answer("openai/gpt-oss-120b", "openai", provider_url="https://api.groq.com/openai/v1")
    assert Prices().of("openai:openai/gpt-oss-120b", given) == theirs(
        "groq", "openai/gpt-oss-120b", given
    )


def test_an_unknown_address_and_name_fall_back_to_what_was_asked_for() -> None:
    given = answer("my-deployment-7", "openai", provider_url="http://127.0.0.1:8000/v1")
    assert Prices().of("openai:gpt-5", given) == Decimal("2.25")
    assert Prices().of("openai:nonesuch", given) is None


def test_what_the_gateway_charged_counts() -> None:
    given = answer()
    given.usage.cost = Decimal("0.5")
    assert Prices().of("openai:gpt-5", given) == Decimal("0.5")
    assert Prices({"openai:gpt-5": price(2)}).of("openai:gpt-5", given) == 2
    assert Prices().of("scripted:x", answer("function:f", None)) is None


@pytest.mark.parametrize("model", ["local:smollm2-135m", "replay:runs/gpt-4o", "control:hijacked"])
def test_what_runs_here_or_is_no_model_costs_nothing(model: str) -> None:
    assert Prices().of(model, answer()) == 0
    assert Prices({"*": price(1)}).of(model, answer()) == 0
    assert Prices({f"{model[:5]}*:*": price(1)}).of(model, answer()) == 0
    assert Prices({f"{model.partition(':')[0]}:*": price(1)}).of(model, answer()) == 1


def test_the_own_table_comes_first_the_exact_name_before_patterns_in_their_order() -> None:
    prices = Prices(
        {
            "openai:gpt-5-*": price(1),
            "openai:*": price(2),
            "openai:gpt-5-mini": price(3),
            "*": price(4),
        }
    )
    models = ["openai:gpt-5-nano", "openai:gpt-5", "openai:gpt-5-mini", "ollama:x"]
    assert [prices.of(model, answer()) for model in models] == [1, 2, 3, 4]


def test_a_price_of_ones_own_charges_cached_tokens_as_genai_prices_does() -> None:
    usage = {"input_tokens": 1_000_000, "cache_read_tokens": 600_000, "cache_write_tokens": 100_000}

    def cost(**more: Any) -> Any:
        return Prices({"a:b": price(10, **more)}).of("a:b", answer(usage=usage))

    assert cost() == 10
    assert cost(cache_read_mtok=1) == Decimal("4.6")
    assert cost(cache_read_mtok=1, cache_write_mtok=20) == Decimal("5.6")
    assert cost(request=0.25) == Decimal("10.25")
    assert cost(cache_read_mtok=0) == 4


@pytest.mark.parametrize("table", [{}, {"openai:gpt-5": price(1, 1, cache_read_mtok=0.1)}])
@pytest.mark.parametrize(
    "usage",
    [
        {"input_tokens": 5, "cache_read_tokens": 6},
        {"input_tokens": 5, "output_tokens": -1},
        {"input_tokens": 5, "cache_read_tokens": -1_000_000_000},
        {"input_tokens": "5", "output_tokens": 1},
    ],
)
def test_counts_that_cannot_be_have_no_cost(table: Any, usage: dict[str, Any]) -> None:
    assert Prices(table).of("openai:gpt-5", answer(usage=usage)) is None


def test_an_answer_that_does_not_tell_its_tokens_has_no_cost() -> None:
    silent = {"unmeasured_requests": 1}
    assert Prices().of("openai:gpt-5", answer(usage=silent)) is None
    assert Prices({"a:b": price(1)}).of("a:b", answer(usage=silent)) is None
    assert Prices({"a:b": price(0)}).of("a:b", answer(usage=silent)) == 0
    assert Prices({"a:b": price(1, request=0.5)}).of("a:b", answer(usage=silent)) is None
    assert Prices({"a:b": price(0, request=0.5)}).of("a:b", answer(usage=silent)) == Decimal("0.5")
    partly = {"input_tokens": 50, "unmeasured_requests": 1}
    assert Prices({"a:b": price(1)}).of("a:b", answer(usage=partly)) is None
    assert Prices().of("local:x", answer(usage=silent)) == 0


@pytest.mark.parametrize(
    ("model", "known"),
    [
        ("openai:gpt-5", True),
        ("openai-responses:gpt-5", True),
        ("gateway/openai:gpt-5", True),
        ("anthropic:claude-sonnet-4-5", True),
        ("openrouter:openai/gpt-5", True),
        ("local:any", True),
        ("test", True),
        ("openai:nonesuch", False),
        ("ollama:llama3", False),
        ("scripted:echo", False),
        ("my-openai-proxy:gpt-5", False),
        ("gpt-5", False),
        ("mine:small", True),
        ("mine:large", False),
    ],
)
def test_whether_a_model_has_a_price_is_known_before_it_is_asked(model: str, known: bool) -> None:
    assert Prices({"mine:s*": price(1)}).known(model) is known


def test_names_that_servers_make_up_do_not_fill_the_memory() -> None:
    prices = Prices()
    for number in range(1_500):
        assert prices.of("a:b", answer(f"made-up-{number}", "nobody")) is None
    assert prices._listed.cache_info().currsize <= 1_000


def test_a_file_of_prices(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(
        "ollama:*: {input_mtok: 0, output_mtok: 0}\n"
        "openai:gpt-5:\n  input_mtok: 1.1\n  output_mtok: 9\n  cache_read_mtok: 0.11\n"
        "  cache_write_mtok: 1.5\n  request: 0.001\n"
    )
    prices = read_prices(path, Path("prices.yaml"))
    usage = {"input_tokens": 200, "cache_read_tokens": 100, "output_tokens": 10}
    assert prices.of("openai:gpt-5", answer(usage=usage)) == Decimal("0.001211")
    assert prices.of("ollama:llama3", answer(usage=usage)) == 0
    assert prices.known("ollama:llama3")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:b: {input_mtok: 1}\n", "1: missing key 'output_mtok' in ['a:b']"),
        (
            "a:b:\n  input_mtok: 1\n  output_mtok: much\n",
            "3: wrong type for ['a:b'].output_mtok: 'much' is not a number",
        ),
        (
            "a:b:\n  input_mtok: -1\n  output_mtok: 1\n",
            "2: wrong value for ['a:b'].input_mtok: -1 is not at least 0",
        ),
        (
            "a:b: {input_mtok: 1, output_mtok: 1, cache_raed_mtok: 1}\n",
            "1: unknown key 'cache_raed_mtok' in ['a:b'] (did you mean 'cache_read_mtok'?)",
        ),
        ("a:b: 3\n", "1: wrong type for ['a:b']: 3 is not a mapping"),
        ("a:b: {input_mtok: .inf, output_mtok: 1}\n", "1: '.inf' is not a finite number"),
        ("- a\n", "1: the top level must be a mapping of keys, not a list"),
        ("a: [\n", "1: invalid YAML"),
    ],
)
def test_what_is_wrong_with_a_file_of_prices(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(SpecError) as raised:
        read_prices(path, Path("prices.yaml"))
    assert str(raised.value).startswith(f"prices.yaml:{message}")


def test_a_file_of_prices_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"^prices\.yaml: cannot be read: No such file"):
        read_prices(tmp_path / "prices.yaml", Path("prices.yaml"))


def test_the_file_in_the_documentation_is_read(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "limit-costs.md"
    text = re.search(r"^```yaml file=prices.yaml\n(.*?)^```", page.read_text(), re.M | re.S)
    assert text is not None
    path = tmp_path / "prices.yaml"
    path.write_text(text[1])
    prices = read_prices(path, Path("prices.yaml"))
    usage = {"input_tokens": 1_000_000, "output_tokens": 1_000_000}
    assert prices.of("my_gateway:large", answer(usage=usage)) == Decimal("2.001")
