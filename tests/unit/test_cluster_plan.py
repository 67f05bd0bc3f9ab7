"""The plan of a cluster's session, the folder of its processes, and which of them live."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from pytest_siren.distribute.cluster.lines import (
    ENDED,
    has_ended,
    report_line,
    report_of,
    warning_line,
    warning_of,
)
from pytest_siren.distribute.cluster.plan import (
    Group,
    Place,
    Plan,
    PlanError,
    SessionStore,
    Submitted,
    stores,
)
from pytest_siren.distribute.cluster.presence import (
    Presence,
    element_of,
    process_name,
    process_of,
)
from pytest_siren.sharing.state import host

SMALL = Group(["a::1", "a::2"], {"id1": "/jobs/one"}, window=4, elements=1)
LARGE = Group(
    [f"b::{number}" for number in range(100)],
    {"id2": "/jobs/two"},
    window=8,
    elements=3,
    processes=2,
    settings={"partition": "gpu"},
)
PLAN = Plan({"id": "s1", "resume": None}, ["evals"], "/here", ["/lib"], [SMALL, LARGE])


@pytest.fixture
def store(tmp_path: Path) -> SessionStore:
    made = SessionStore.of(tmp_path / "jobs", "s1")
    made.make()
    return made


def test_a_plan_is_read_as_it_was_written(store: SessionStore) -> None:
    store.write_plan(PLAN)
    assert store.plan() == PLAN
    assert (store.folder / "plan.json.gz").stat().st_mode & 0o077 == 0
    assert store.folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damage", [b"", b"no gzip", None])
def test_a_plan_that_cannot_be_read_is_named(store: SessionStore, damage: bytes | None) -> None:
    if damage is not None:
        (store.folder / "plan.json.gz").write_bytes(damage)
    with pytest.raises(PlanError, match=r"the plan .*plan\.json\.gz cannot be read"):
        store.plan()


def test_a_plan_of_another_version_is_not_used() -> None:
    with pytest.raises(PlanError, match="its format is 99, and this version reads 1"):
        Plan.from_plain({"format": 99})


def test_every_element_has_one_place_whatever_array_it_belongs_to() -> None:
    assert (PLAN.elements, PLAN.processes) == (4, 7)
    for round_ in range(3):
        assert [PLAN.place(one) for one in PLAN.numbers(0, round_)] == [Place(0, 0)]
        found = [PLAN.place(one) for one in PLAN.numbers(1, round_)]
        assert found == [Place(1, 0), Place(1, 1), Place(1, 2)]
    numbers = [
        one for round_ in range(3) for group in (0, 1) for one in PLAN.numbers(group, round_)
    ]
    assert numbers == [*range(12)]


def test_the_blocks_of_a_group_are_all_its_runs_once() -> None:
    blocks = LARGE.blocks()
    assert [at for block in blocks for at in range(block.start, block.stop)] == [*range(100)]


def test_arrays_are_noted_in_their_order(store: SessionStore) -> None:
    arrays = [Submitted("local", at % 2, {at: f"{at}_0"}) for at in range(12)]
    for one in arrays:
        store.add_submitted(one)
    assert store.submitted() == arrays


def test_dropped_runs_are_read_once_and_only_whole_lines(store: SessionStore) -> None:
    assert store.dropped() == ([], 0)
    store.drop(["a::1", "a::ü"])
    found, end = store.dropped()
    assert found == ["a::1", "a::ü"]
    assert store.dropped(end) == ([], end)
    with open(store.folder / "dropped.jsonl", "a", encoding="utf-8") as file:
        file.write('"a::3"\n"a::')
    found, later = store.dropped(end)
    assert found == ["a::3"]
    assert store.dropped(later) == ([], later)


def test_sessions_are_found_beside_their_jobs_and_leave_nothing(store: SessionStore) -> None:
    jobs = store.folder.parents[1]
    assert stores(jobs) == [store]
    assert stores(jobs / "elsewhere") == []
    (store.engine / "e0.0.log").write_text("why")
    store.remove_but_logs()
    assert [*store.folder.iterdir()] == [store.engine]
    store.remove()
    assert [*jobs.iterdir()] == []


def test_names_tell_the_element_and_the_place_in_it() -> None:
    assert process_name(12, 3) == "e12.3"
    assert process_name(12, 3, 2) == "e12.3-r2"
    for name in ("e12.3", "e12.3-r2"):
        assert (element_of(name), process_of(name)) == (12, 3)


def begin_elsewhere(folder: Path, name: str) -> subprocess.Popen[bytes]:
    """Let another process begin, and wait for it to be killed."""
    code = (
        "import sys, time; from pathlib import Path;"
        "from pytest_siren.distribute.cluster.presence import Presence;"
        f"Presence(Path({str(folder)!r})).begun({name!r});"
        "print('begun', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    return process


def test_a_process_lives_until_it_is_killed_and_has_died_then(store: SessionStore) -> None:
    presence = Presence(store.presence)
    with begin_elsewhere(store.presence, "e0.0") as process:
        assert presence.names() == ["e0.0"]
        assert presence.alive("e0.0")
        assert not presence.died("e0.0")
        assert presence.pids() == {process.pid}
        assert presence.process("e0.0") == f"{host()}-{process.pid}"
        process.kill()
    assert not presence.alive("e0.0")
    assert presence.died("e0.0")
    assert presence.pids() == frozenset()


def test_a_process_that_ended_in_order_has_not_died(store: SessionStore) -> None:
    presence = Presence(store.presence)
    presence.begun("e0.0")
    assert presence.alive("e0.0")
    presence.ended("e0.0")
    assert not presence.alive("e0.0")
    assert not presence.died("e0.0")


def test_a_process_of_another_host_lives_as_long_as_it_is_heard_of(store: SessionStore) -> None:
    heard = True
    presence = Presence(store.presence, lambda process: heard and process == "far-7")
    assert presence.alive("e1.0")  # nothing is known of it yet
    (store.presence / "e1.0.json").write_text('{"host": "far", "pid": 7}')
    assert presence.alive("e1.0")
    heard = False
    assert not presence.alive("e1.0")
    heard = True
    assert not presence.alive("e1.0")  # others may have taken over what it had


def test_what_the_engine_knows_to_be_gone_is_dead_at_once(store: SessionStore) -> None:
    presence = Presence(store.presence)
    (store.presence / "e1.0.json").write_text('{"host": "far", "pid": 7}')
    assert presence.alive("e1.0")
    presence.gone("e1.0")
    assert not presence.alive("e1.0")
    assert presence.died("e1.0")


def test_a_process_with_the_id_of_an_earlier_one_is_another(store: SessionStore) -> None:
    told = f'{{"host": "{host()}", "pid": {os.getpid()}, "started": "1"}}'
    (store.presence / "e1.0.json").write_text(told)
    assert not Presence(store.presence).alive("e1.0")


def test_problems_are_read_by_the_name_of_the_process(store: SessionStore) -> None:
    presence = Presence(store.presence)
    presence.problem("e1.0", "it has no eval files")
    assert presence.problems() == {"e1.0": "it has no eval files"}
    assert presence.names() == []


class OddWarning(UserWarning):
    """Its constructor takes more than a text."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def test_a_warning_crosses_with_its_class_and_place() -> None:
    for category in (OddWarning, DeprecationWarning, pytest.PytestWarning):
        sent = category("so", "odd") if category is OddWarning else category("so odd")
        line = warning_line(warnings.WarningMessage(sent, category, "file.py", 7), "a::1")
        found = warning_of(line)
        assert found is not None
        message, nodeid = found
        assert (str(message.message), message.category) == ("so odd", category)
        assert (message.filename, message.lineno, nodeid) == ("file.py", 7, "a::1")


def test_a_warning_whose_class_is_not_here_is_a_general_one() -> None:
    message = warnings.WarningMessage(UserWarning("text"), UserWarning, "file.py", 7)
    line = warning_line(message, "a::1")
    for module, name in (("no.such.module", "Odd"), ("os", "path"), ("os", "Nothing")):
        line["warning"]["category"] = [module, name]
        found = warning_of(line)
        assert found is not None
        assert found[0].category is UserWarning
        assert str(found[0].message) == "text"


def test_a_report_crosses_with_pairs_as_they_were(request: pytest.FixtureRequest) -> None:
    sent = pytest.TestReport(
        nodeid="a::1",
        location=("a", 3, "1"),
        keywords={"a": 1},
        outcome="failed",
        longrepr="one line",
        when="call",
        sections=[("Captured stdout", "text")],
        user_properties=[("score", 0.5)],
    )
    line = json.loads(json.dumps(report_line(request.config, sent)))
    found = report_of(request.config, line)
    assert found is not None
    for name in ("nodeid", "location", "keywords", "outcome", "longrepr", "when"):
        assert getattr(found, name) == getattr(sent, name)
    assert found.sections == [("Captured stdout", "text")]
    assert found.user_properties == [("score", 0.5)]
    assert report_of(request.config, ENDED) is None
    assert has_ended(ENDED)
    assert not has_ended(report_line(request.config, sent))
