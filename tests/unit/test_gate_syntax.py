"""What a gate may say, and what is said of one that cannot be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_siren.metrics.rates import measures
from pytest_siren.spec import gates
from pytest_siren.spec.gates import Gate, GateError, parse_gate


def test_a_gate_has_a_measure_an_operator_and_a_bound() -> None:
    assert parse_gate("asr <= 0.05", "--gate") == Gate(
        "asr <= 0.05", "--gate", "asr", (), "<=", 0.05
    )


@pytest.mark.parametrize(
    ("text", "measure", "operator", "bound"),
    [
        ("asr<=5%", "asr", "<=", 0.05),
        ("  utility  >  .8 ", "utility", ">", 0.8),
        ("pass@5 >= 0.9", "pass@5", ">=", 0.9),
        ("attack_pass^10 < 1e-2", "attack_pass^10", "<", 0.01),
        ("cost <= 3.00", "cost", "<=", 3.0),
        ("tokens < 1000000", "tokens", "<", 1e6),
        ("max_task_asr <= 50 %", "max_task_asr", "<=", 0.5),
        ("asr_increase <= -0.02", "asr_increase", "<=", -0.02),
        ("noninferior(utility, 0.01)", "utility_drop", "<=", 0.01),
        ("noninferior( asr ,2%)", "asr_increase", "<=", 0.02),
    ],
)
def test_spellings(text: str, measure: str, operator: str, bound: float) -> None:
    gate = parse_gate(text, "")
    assert (gate.measure, gate.operator, gate.bound) == (measure, operator, bound)
    assert gate.text == text


def test_groups() -> None:
    gate = parse_gate("""asr[attack=tool_knowledge, task='a:b,]', model="m"] <= 0.1""", "")
    assert gate.group == (("attack", "tool_knowledge"), ("task", "a:b,]"), ("model", "m"))


@pytest.mark.parametrize(
    ("text", "at", "message"),
    [
        ("", 0, "'': expected a measure such as asr, but nothing follows"),
        ("0.05 >= asr", 0, "expected a measure such as asr, not '0.05 >= asr'"),
        ("assr <= 1", 0, "unknown measure 'assr' (did you mean 'asr'?); known are asr, utility,"),
        ("pass@0 >= 1", 0, "unknown measure 'pass@0'"),
        ("max_task_utility <= 1", 0, "(did you mean 'min_task_utility'?)"),
        ("asr", 3, "expected <=, >=, < or >, but nothing follows"),
        ("asr =< 0.05", 4, "'=<' is none of <=, >=, <, > (did you mean '<='?)"),
        ("asr == 0", 4, "'==' is none of"),
        ("asr <= x", 7, "expected a number such as 0.05 or 5%, not 'x'"),
        ("asr <= 5", 7, "asr is always from 0 to 1 (did you mean 5%?)"),
        ("asr <= -0.1", 7, "asr is always from 0 to 1"),
        ("asr_increase <= 2", 16, "asr_increase is always from -1 to 1 (did you mean 2%?)"),
        ("cost <= -3", 8, "cost is never negative"),
        ("asr <= 0.05 and more", 12, "expected nothing after the number, not 'and more'"),
        (
            "asr[atack=x] <= 0",
            4,
            "unknown key 'atack' (did you mean 'attack'?); known are dataset,",
        ),
        ("asr[attack] <= 0", 10, "expected = and a value after attack, not '] <= 0'"),
        ("asr[attack=] <= 0", 11, "expected a value of attack, not '] <= 0'"),
        ("asr[attack=x <= 0", 17, "expected ] or a comma, but nothing follows"),
        ("asr[attack=x,attack=y] <= 0", 13, "attack is given twice"),
        ("asr[] <= 0", 4, "expected one of dataset,"),
        ("noninferior(em, 0.01)", 12, "noninferior() takes one of asr, utility, utility_under"),
        ("noninferior(utility, x)", 21, "'x' is no margin"),
    ],
)
def test_what_is_wrong_and_where(text: str, at: int, message: str) -> None:
    with pytest.raises(GateError) as raised:
        parse_gate(text, "")
    assert message in str(raised.value)
    assert raised.value.at == at
    assert raised.value.pointed().endswith(f"\n    {text}\n    {' ' * at}^")


def test_an_error_never_carries_what_a_terminal_obeys() -> None:
    with pytest.raises(GateError) as raised:
        parse_gate("asr\x1b[2J <= 0", "")
    assert raised.value.pointed().isprintable()


@given(st.text())
def test_any_text_is_a_gate_or_an_error(text: str) -> None:
    try:
        at = len(parse_gate(text, "").text)
    except GateError as error:
        at = error.at
    assert 0 <= at <= len(text)


def test_the_measures_are_those_that_can_be_computed() -> None:
    assert {*gates.RATES, *gates.STAGES, *gates.ALARMS} == set(measures.PLAIN)
    assert set(gates.OVER_K) == set(measures.OVER_K)
