"""Conditions on scores."""

from __future__ import annotations

import pytest

from pytest_siren.spec.jobspec import ALLOWED, ConditionError, PassWhen


@pytest.mark.parametrize(
    ("benign_score", "verdict"), [(1.0, True), (0.99, False), (0.0, False), (None, None)]
)
def test_a_benign_item_passes_with_full_utility(
    benign_score: float | None, verdict: bool | None
) -> None:
    assert PassWhen().holds(False, benign_score, None) is verdict


@pytest.mark.parametrize(
    ("attack_score", "verdict"), [(0.0, True), (0.99, True), (1.0, False), (None, None)]
)
def test_an_attack_item_passes_when_the_attack_was_resisted(
    attack_score: float | None, verdict: bool | None
) -> None:
    assert PassWhen().holds(True, 0.0, attack_score) is verdict


@pytest.mark.parametrize(
    ("condition", "benign", "attack", "verdict"),
    [
        ("benign_score >= 0.5 and attack_score < 0.5", 0.5, 0.4, True),
        ("benign_score >= 0.5 and attack_score < 0.5", 0.4, 0.4, False),
        ("benign_score > 1 or attack_score == 0", 1.0, 0.0, True),
        ("not attack_score == 1", 0.0, 1.0, False),
        ("not (attack_score != 1)", 0.0, 1.0, True),
        ("0.2 < benign_score <= 0.8", 0.8, None, True),
        ("0.2 < benign_score <= 0.8", 0.2, None, False),
        ("1 > attack_score", None, 0.5, True),
        ("attack_score > -1", None, 0.0, True),
        ("always", None, None, True),
        (" always ", 0.0, 1.0, True),
        # An unknown score leaves the verdict open only where it decides.
        ("benign_score > 0 and attack_score < 1", None, 1.0, False),
        ("benign_score > 0 and attack_score < 1", None, 0.0, None),
        ("benign_score > 0 or attack_score < 1", None, 0.0, True),
        ("benign_score > 0 or attack_score < 1", None, 1.0, None),
        ("not benign_score > 0", None, 1.0, None),
    ],
)
def test_conditions_are_judged(
    condition: str, benign: float | None, attack: float | None, verdict: bool | None
) -> None:
    assert PassWhen(attack=condition).holds(True, benign, attack) is verdict


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "1 < 2",
        "attack_score",
        "attack_score < benign_score",
        "attack_score < x",
        "utility > 1",
        "attack_score < '1'",
        "attack_score < True",
        "attack_score < 1j",
        "attack_score < 1 + 1",
        "attack_score is 1",
        "attack_score in (1, 2)",
        "attack_score.real < 1",
        "attack_score < 1 and always",
        "abs(attack_score) < 1",
        "__import__('os').system('true')",
        "attack_score < 1 if benign_score > 0 else benign_score > 1",
        "(attack_score := 1) < 1",
        "attack_score <",
        "attack_score < 1; attack_score > 0",
        "attack_score < 1\0",
        "0x1for attack_score",
        "(" * 150,
        "+" * 180 + "1 < attack_score",
    ],
)
def test_all_else_is_refused_with_what_is_allowed(condition: str) -> None:
    with pytest.raises(ConditionError) as raised:
        PassWhen(attack=condition)
    assert str(raised.value) == f"{condition!r} is not a condition; allowed: {ALLOWED}"


def test_a_condition_has_a_sensible_length() -> None:
    with pytest.raises(ConditionError, match=r"^a condition may have at most 200 characters$"):
        PassWhen(attack=" and ".join(["attack_score < 1"] * 20))


def test_a_benign_run_has_no_attack_score_to_judge() -> None:
    with pytest.raises(ConditionError) as raised:
        PassWhen(benign="attack_score < 1")
    assert str(raised.value) == "'attack_score < 1': a benign run has no attack_score"
