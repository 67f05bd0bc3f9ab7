"""What a session was asked for survives it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_siren.session.invocation import Invocation

TEXTS = st.lists(st.text(), max_size=3).map(tuple)
INVOCATIONS = st.builds(
    Invocation,
    args=TEXTS,
    attack=TEXTS,
    benign=st.booleans(),
    model=TEXTS,
    runs=st.none() | st.integers(1, 9),
    set=TEXTS,
    keyword=st.text(),
)


@given(INVOCATIONS)
def test_it_survives_json(invocation: Invocation) -> None:
    assert Invocation.from_plain(json.loads(json.dumps(invocation.plain()))) == invocation


def test_fields_of_another_version_are_passed_over() -> None:
    assert Invocation.from_plain({"attack": ["a"], "new": 1}) == Invocation(attack=("a",))


def test_changes_take_the_place_of_what_they_change() -> None:
    before = Invocation(set=("execution.concurrency=2", "a.b=1"), keyword="x", runs=2)
    after = before.with_changes(Invocation(runs=5), ["execution.concurrency=9"])
    assert after.set == ("a.b=1", "execution.concurrency=9")
    assert (after.runs, after.keyword) == (5, "x")


def test_arguments_are_kept_relative_to_the_root_folder(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]")
    pytester.mkdir("evals").joinpath("eval_x.yaml").write_text("")
    config = pytester.parseconfig("evals/eval_x.yaml::a:b[c::d-run0]", "--attack=one,two")
    invocation = Invocation.of(config)
    assert invocation.args == ("evals/eval_x.yaml::a:b[c::d-run0]",)
    other = pytester.parseconfig()
    invocation.restore(other, with_args=True, with_filters=True)
    assert other.args == [f"{Path(other.rootpath)}/evals/eval_x.yaml::a:b[c::d-run0]"]
    assert other.option.siren_attack == ["one,two"]
