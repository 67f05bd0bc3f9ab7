"""A bare pytest that would call a paid model for the first time announces what it will spend."""

from __future__ import annotations

import pytest

from tests.acceptance.conftest import Project

pytestmark = pytest.mark.inside

FIRST = "siren: the first evaluations of this project are about to begin: "


def test_a_bare_session_announces_its_runs_before_the_first_one(
    project: Project, dist: list[str]
) -> None:
    project.args = dist
    project.write("test_plain.py", "def test_plain():\n    pass\n")
    project.write("prices.yaml", "'scripted:deaf': {input_mtok: 1, output_mtok: 1}\n")
    result = project.run("--model=scripted:echo,scripted:deaf", "--siren-prices=prices.yaml")
    result.stdout.fnmatch_lines(
        [
            f"{FIRST}2 runs on scripted:echo (no price is known), "
            "2 runs on scripted:deaf (its price is known)",
            "siren: pytest without arguments executes evaluations too; to run them by name only "
            "(pytest evals), set testpaths in pytest.ini to the folders of your tests",
            "*[[]100%]*",
        ]
    )
    assert len(project.results()) == 4
    # Only the first time.
    project.run().stdout.no_fnmatch_line("siren: *")


@pytest.mark.parametrize(
    ("args", "ini"),
    [
        (["evals"], ""),
        (["."], ""),
        ([], "testpaths = evals"),
        (["--model=test"], ""),
        (["--collect-only"], ""),
    ],
    ids=str,
)
def test_who_names_evaluations_or_pays_nothing_is_not_bothered(
    project: Project, args: list[str], ini: str
) -> None:
    project.write("pytest.ini", f"[pytest]\n{ini}\n")
    result = project.run(*args)
    assert "mail" in result.stdout.str()
    result.stdout.no_fnmatch_line("siren: *")


def test_a_session_without_a_cache_has_no_memory(project: Project) -> None:
    for _ in range(2):
        project.run("-p", "no:cacheprovider").stdout.fnmatch_lines([f"{FIRST}2 runs on *"])


def test_lf_without_anything_to_resume_is_a_first_time_too(project: Project) -> None:
    project.run("--lf").stdout.fnmatch_lines([f"{FIRST}2 runs on *"])
    project.run("--lf").stdout.no_fnmatch_line("siren: *")


def test_testpaths_keeps_evaluations_out(project: Project) -> None:
    project.write("pytest.ini", "[pytest]\ntestpaths = tests\n")
    project.write("tests/test_plain.py", "def test_plain():\n    pass\n")
    result = project.run()
    result.assert_outcomes(passed=1)
    assert not project.jobs()
