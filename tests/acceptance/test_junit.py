"""What a JUnit file says of runs: named properties, in a shape that CI systems accept."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.acceptance.conftest import Project

pytestmark = pytest.mark.inside

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "reports.md"
_ATTRIBUTES = {"classname", "name", "time"}
_OUTCOMES = {"failure", "error", "skipped"}


def cases(project: Project, *args: str) -> list[ET.Element]:
    """Run a session and return the test cases of its JUnit file, the shape of which is checked."""
    project.run("evals", "--junitxml=junit.xml", *args)
    root = ET.parse(project.path / "junit.xml").getroot()
    assert root.tag == "testsuites"
    (suite,) = root
    assert suite.tag == "testsuite"
    found = list(suite)
    assert int(suite.attrib["tests"]) == len(found)
    for case in found:
        assert case.tag == "testcase"
        assert case.attrib.keys() == _ATTRIBUTES
        assert float(case.attrib["time"]) >= 0
        tags = [child.tag for child in case]
        assert tags[:1] == ["properties"]
        assert tags.count("properties") == 1
        assert set(tags[1:]) <= _OUTCOMES | {"system-out", "system-err"}
        for one in case[0]:
            assert one.tag == "property"
            assert one.attrib.keys() == {"name", "value"}
    return found


def properties(case: ET.Element) -> dict[str, str]:
    found = [(one.attrib["name"], one.attrib["value"]) for one in case[0]]
    assert len(dict(found)) == len(found)
    return dict(found)


@pytest.mark.parametrize("dist", [[], ["-n2"]], ids=["alone", "-n2"])
def test_an_attacked_run_says_who_won_on_what_and_where_it_is_recorded(
    project: Project, dist: list[str]
) -> None:
    found = cases(project, *dist, "--attack=template_string", "--task-ids=summary:advert")
    (case,) = found
    assert case.attrib["classname"] == "evals.eval_mail.yaml"
    assert case.attrib["name"] == "summary:advert[template_string-scripted:echo-run0]"
    (result,) = project.results()
    (folder,) = project.path.glob("jobs/*/*/*")
    assert properties(case) == {
        "status": "scored",
        "finish": "complete",
        "benign_score": "1",
        "attack_score": "1",
        "dataset": "mail",
        "task_id": "summary:advert",
        "attack": "template_string",
        "vectors": "note",
        "exposed": "true",
        "stage": "achieved",
        "agent": "plain",
        "model": "scripted:echo",
        "run_index": "0",
        "run_id": result["run_id"],
        "attempt": "1",
        "attempts": "1",
        "recorded": "false",
        "input_tokens": str(result["usage"]["input_tokens"]),
        "output_tokens": str(result["usage"]["output_tokens"]),
        "record": folder.relative_to(project.path).as_posix(),
    }


def test_what_is_not_known_is_left_out_and_every_property_is_explained(project: Project) -> None:
    project.write(
        "evals/test_plain.py",
        "def test_plain(record_property): record_property('siren_status', 'mine')\n",
    )
    found = {
        case.attrib["name"]: properties(case)
        for case in cases(
            project, "--attack=template_string", "--model=scripted:crash,control:hijacked"
        )
    }
    assert found.pop("test_plain") == {"siren_status": "mine"}
    crashed = [one for one in found.values() if one["model"] == "scripted:crash"]
    assert {(one["status"], one["error_type"]) for one in crashed} == {("error", "RuntimeError")}
    assert not {"benign_score", "attack_score", "attack_unknown"} & crashed[0].keys()
    unknown = [one for one in found.values() if one["model"] == "control:hijacked"]
    assert len(unknown) == len(crashed) == 4
    assert all(one["attack_unknown"] and "attack_score" not in one for one in unknown)
    assert "None" not in {value for one in found.values() for value in one.values()}
    names = {name for one in found.values() for name in one}
    names |= {"benign_score", "attack_score", "benign_unknown", "suite", "cost_usd"}
    section = PAGE.read_text().partition("## JUnit")[2].partition("\n## ")[0]
    listed = {line.split("`")[1] for line in section.splitlines() if line.startswith("| `")}
    assert listed == names


def test_runs_told_again_are_marked_and_attempts_counted(project: Project) -> None:
    project.run("evals", "--model=scripted:echo,scripted:crash")
    again = {
        (one["model"], one["recorded"], one["attempt"], one["attempts"])
        for one in map(properties, cases(project, "--lf"))
    }
    assert again == {("scripted:echo", "true", "1", "1"), ("scripted:crash", "false", "2", "2")}


def test_hostile_text_is_legal_xml(project: Project) -> None:
    text = (project.path / "evals" / "eval_mail.yaml").read_text()
    hostile = '<b>&"]]><!--::x'
    project.write("evals/eval_mail.yaml", text.replace("id: reply", f"id: '{hostile}'"))
    found = cases(project, "--model=scripted:escape")
    assert len(found) == 2
    assert hostile in {properties(case)["task_id"] for case in found}
    assert all("harmless" in (case.findtext("failure") or "") for case in found)
    assert "\x1b" not in (project.path / "junit.xml").read_text()
