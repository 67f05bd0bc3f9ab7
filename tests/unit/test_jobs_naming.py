from __future__ import annotations

import re
import unicodedata
from datetime import datetime
from hashlib import sha256

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_siren.jobs.records.naming import (
    check_job_name,
    check_run_id,
    job_name,
    sanitise,
    task_directory,
    task_parts,
)

ANY_TEXT = st.text(st.characters(exclude_categories=()))
WHEN = datetime(2026, 1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("plain:gpt-5", "plain_gpt-5"),
        ("azure/gpt-5-turbo", "azure_gpt-5-turbo"),
        ("my model  name", "my_model_name"),
        ("__a:_/b__", "a_b"),
        ("../../x", "x"),
        ("été", "t"),
        ("👩‍💻", ""),
        ("..", ""),
        ("-rf", "-rf"),
    ],
)
def test_sanitised_names(raw: str, clean: str) -> None:
    assert sanitise(raw) == clean


@given(ANY_TEXT)
@example("\x00")
@example("\ud800")
@example("🔥" * 300)
def test_a_sanitised_name_is_ascii_without_separators_and_stays_the_same(name: str) -> None:
    clean = sanitise(name)
    assert re.fullmatch(r"[A-Za-z0-9_-]*", clean)
    assert "__" not in clean
    assert not clean.startswith("_")
    assert not clean.endswith("_")
    assert sanitise(clean) == clean


@pytest.mark.parametrize(
    ("task_id", "parts", "directory"),
    [
        ("user_task_0", ["user_task_0"], "user_task_0"),
        (
            "user_task_0:injection_task_1",
            ["user_task_0", "injection_task_1"],
            "user_task_0_injection_task_1",
        ),
        ("a" * 100, ["a" * 100], "a" * 100),
    ],
)
def test_the_folder_of_an_ordinary_task_is_prompt_sirens(
    task_id: str, parts: list[str], directory: str
) -> None:
    assert task_directory(task_id, parts) == directory == sanitise(task_id)


@pytest.mark.parametrize(
    ("task_id", "prefix"),
    [
        ("../../x", "x"),
        ("a/b", "a_b"),
        ("a b", "a_b"),
        (":", "task"),
        ("..", "task"),
        ("", "task"),
        ("🔥", "task"),
        ("_a_", "a"),
        ("x" * 300, "x" * 100),
    ],
)
def test_the_folder_of_any_other_task_ends_in_a_digest_of_its_id(task_id: str, prefix: str) -> None:
    digest = sha256(task_id.encode()).hexdigest()[:8]
    assert task_directory(task_id, [task_id]) == f"{prefix}-{digest}"


def test_ids_that_are_equal_once_sanitised_have_folders_of_their_own() -> None:
    ids = ["a_b", "a b", "a/b", "a:b", "a__b", "_a_b", "a_b ", "a\0b", "a🔥b"]
    assert len({task_directory(task_id, [task_id]) for task_id in ids}) == len(ids)


def test_couples_with_an_empty_id_do_not_share_a_folder() -> None:
    assert task_directory("a:", ["a", ""]) != task_directory(":a", ["", "a"])


@given(ANY_TEXT)
@example("..")
@example("\x00")
@example("\ud800/\udfff")
@example("x" * 300)
@example("é" * 300)
def test_a_folder_name_is_safe_whatever_the_id(task_id: str) -> None:
    name = task_directory(task_id, [task_id])
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,120}", name)


@given(ANY_TEXT, ANY_TEXT)
def test_two_ids_share_a_folder_only_if_they_are_the_same(first: str, second: str) -> None:
    same = task_directory(first, [first]) == task_directory(second, [second])
    assert same == (first == second)


@given(ANY_TEXT, ANY_TEXT)
def test_a_couple_of_clean_ids_has_the_sanitised_name(benign: str, malicious: str) -> None:
    couple = f"{benign}:{malicious}"
    name = task_directory(couple, [benign, malicious])
    clean = all(part and sanitise(part) == part for part in (benign, malicious))
    assert (name == sanitise(couple)) == (clean and len(sanitise(couple)) <= 100)


def test_the_parts_of_a_task_id() -> None:
    assert task_parts("a:b", "template_string") == ["a", "b"]
    assert task_parts("a:b", None) == ("a:b",)
    assert task_parts("a:b:c", "template_string") == ("a:b:c",)


@pytest.mark.parametrize(
    ("attack", "cell", "name"),
    [
        (None, {}, "agentdojo-workspace_plain_openai_gpt-5_benign_2026-01-02_03-04-05"),
        (
            "template_string",
            {},
            "agentdojo-workspace_plain_openai_gpt-5_template_string_2026-01-02_03-04-05",
        ),
        (
            "dict",
            {"agent.config.temperature": "0.5"},
            "agentdojo-workspace_plain_openai_gpt-5_dict_temperature_0_5_2026-01-02_03-04-05",
        ),
    ],
)
def test_job_names(attack: str | None, cell: dict[str, str], name: str) -> None:
    assert job_name("agentdojo-workspace", "plain", "openai:gpt-5", attack, WHEN, cell) == name


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT, st.none() | ANY_TEXT, st.dictionaries(ANY_TEXT, ANY_TEXT))
@example("d" * 300, "a" * 300, "m" * 300, "x" * 300, {"k" * 300: "v" * 300})
@example("..", "\x00", "\ud800", "🔥", {"..": "/"})
def test_a_job_name_is_a_safe_folder_shorter_than_200_bytes(
    dataset: str, agent: str, model: str, attack: str | None, cell: dict[str, str]
) -> None:
    name = job_name(dataset, agent, model, attack, WHEN, cell)
    assert re.fullmatch(r"[A-Za-z0-9_-]+_2026-01-02_03-04-05", name)
    assert len(name) < 200
    assert check_job_name(name) == name


def test_long_values_of_a_sweep_are_told_apart() -> None:
    names = {job_name("d", "a", "m", "x", WHEN, {"key": "v" * 90 + end}) for end in "12"}
    assert len(names) == 2


@pytest.mark.parametrize("run_id", ["", "..", "../../ab", "0123ABCD", "0123abcd\n", "0123abcde"])
def test_a_run_id_that_could_be_a_path_is_refused(run_id: str) -> None:
    with pytest.raises(ValueError, match=r"is not 8 hexadecimal digits \(see RunIds\)"):
        check_run_id(run_id)


@pytest.mark.parametrize("name", ["a/b", "..", ".sweeps", "a\\b", "a\nb", "a\x00b", "a\u202eb"])
def test_a_job_name_that_is_no_visible_folder_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a folder"):
        check_job_name(name)


def test_an_empty_or_endless_job_name_is_refused() -> None:
    for name in ("", " ", "\u3000 "):
        with pytest.raises(ValueError, match="the job name is empty"):
            check_job_name(name)
    with pytest.raises(ValueError, match="longer than 200 bytes: shorten it"):
        check_job_name("é" * 101)


def test_a_job_name_of_the_users_may_hold_letters_of_any_script() -> None:
    name = unicodedata.normalize("NFC", "Läufe v1.2 昼")
    assert check_job_name(name) == name
