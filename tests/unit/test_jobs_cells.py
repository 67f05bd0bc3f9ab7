"""Which cells of a sweep a selector means."""

from __future__ import annotations

import pytest

from pytest_siren.jobs.sweeps import Cell, chosen, differing

TEMPERATURE, TOP_P = "agent.config.model_settings.temperature", "agent.config.model_settings.top_p"
CELLS = [
    Cell(
        job=f"job{number}",
        dataset="mail",
        agent="plain",
        model=model,
        attack=attack,
        values={TEMPERATURE: temperature},
    )
    for number, (model, attack, temperature) in enumerate(
        [("openai:a", None, "0"), ("openai:a", "x", "0.7"), ("local:b,c", "x", "0")], start=1
    )
]
NAMES = ["job1", "job2", "job3", "unreadable"]


@pytest.mark.parametrize(
    ("selector", "jobs"),
    [
        ("1", ["job1"]),
        ("4", ["unreadable"]),
        ("model=openai:a", ["job1", "job2"]),
        ("model=openai:*,attack=x", ["job2"]),
        ("attack=benign", ["job1"]),
        ("temperature=0", ["job1", "job3"]),
        (f"{TEMPERATURE}=0.7", ["job2"]),
        ("model=local:b,c,attack=x", ["job3"]),
        ("model=local:b,c", ["job3"]),
    ],
)
def test_numbers_and_conditions(selector: str, jobs: list[str]) -> None:
    assert chosen(CELLS, NAMES, selector) == jobs


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("0", "there is no cell 0; the sweep has 4"),
        ("5", "there is no cell 5; the sweep has 4"),
        ("", "'' is neither the number of a cell nor KEY=VALUE"),
        ("x", "'x' is neither the number of a cell nor KEY=VALUE"),
        ("ture=0", "no cell has a 'ture'"),
        ("attack=y", "no cell fits 'attack=y'"),
    ],
)
def test_what_is_not_there_is_named(selector: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        chosen(CELLS, NAMES, selector)


def test_only_what_differs_is_named_and_by_its_last_part() -> None:
    assert differing(CELLS)["job2"] == {"model": "openai:a", "attack": "x", "temperature": "0.7"}
    other = Cell(job="j", dataset="mail", agent="plain", model="m", values={"a.temperature": "1"})
    assert TEMPERATURE in differing([*CELLS, other])["job1"]
