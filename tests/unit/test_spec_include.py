"""``include``: files merged under an eval file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.spec_sample import MINIMAL, Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_the_file_is_merged_onto_what_it_includes(folder: Folder) -> None:
    folder.write("one.yaml", "runs: 2\ntags: [one]\ndataset: {type: toy, config: {limit: 1}}\n")
    folder.write("two.yaml", "runs: 3\nexecution: {concurrency: 4}\ntask_ids: [x]\n")
    [job] = folder.load(
        "include: [one.yaml, two.yaml]\ndataset: {config: {version: v2}}\n"
        "agent: {config: {model: m}}\ntask_ids: null\n"
    )
    assert (job.runs, job.concurrency, job.tags, job.task_ids) == (3, 4, ("one",), None)
    assert job.dataset.raw == {"limit": 1, "version": "v2"}


def test_one_file_needs_no_list_and_paths_start_from_the_file_they_stand_in(
    folder: Folder,
) -> None:
    folder.write("shared/base.yaml", "include: deeper/models.yaml\ndataset: {type: toy}\n")
    folder.write("shared/deeper/models.yaml", "agent: {config: {model: m}}\n")
    [job] = folder.load("include: shared/base.yaml\n")
    assert (job.dataset.type, job.model, job.base) == ("toy", "m", folder.path)


def test_a_file_may_be_reached_on_two_ways(folder: Folder) -> None:
    folder.write("base.yaml", MINIMAL)
    folder.write("a.yaml", "include: base.yaml\nruns: 2\n")
    folder.write("b.yaml", "include: base.yaml\ntags: [b]\n")
    [job] = folder.load("include: [a.yaml, b.yaml]\n")
    assert (job.runs, job.tags) == (2, ("b",))


def test_problems_name_the_line_of_the_file_that_they_stand_in(folder: Folder) -> None:
    folder.write("shared/base.yaml", "dataset: {type: toy}\nagent:\n  config:\n    modle: m\n")
    folder.write("dup.yaml", "runs: 1\nruns: 2\n")
    assert folder.problems("include:\n  - shared/base.yaml\n  - dup.yaml\nruns: x\n") == [
        "evals/eval_x.yaml:4: wrong type for runs: 'x' is not an integer",
        "evals/dup.yaml:2: duplicate key 'runs' (first on line 1)",
        "evals/shared/base.yaml:2: no model: give --model or agent.config.model",
        "evals/shared/base.yaml:4: unknown key 'modle' in agent.config (did you mean 'model'?)",
    ]


def test_paths_in_messages_are_short(folder: Folder) -> None:
    folder.write("shared/base.yaml", "include: ../common.yaml\n")
    folder.write("common.yaml", "runs: x\n")
    assert folder.problems(f"{MINIMAL}include: shared/base.yaml\n") == [
        "evals/common.yaml:1: wrong type for runs: 'x' is not an integer"
    ]


@pytest.mark.parametrize(
    ("include", "messages"),
    [
        ("none.yaml", ["evals/eval_x.yaml:3: include: there is no file 'evals/none.yaml'"]),
        (".", ["evals/eval_x.yaml:3: include: there is no file 'evals'"]),
        (
            "eval_x.yaml",
            [
                "evals/eval_x.yaml:3: the include of 'eval_x.yaml' never ends: "
                "eval_x.yaml -> eval_x.yaml"
            ],
        ),
        (
            "loop.yaml",
            [
                "evals/loop.yaml:1: the include of 'eval_x.yaml' never ends: "
                "eval_x.yaml -> loop.yaml -> eval_x.yaml"
            ],
        ),
        ("3", ["evals/eval_x.yaml:3: wrong type for include: 3 is not a file name"]),
        (
            "[{a: 1}, '']",
            [
                'evals/eval_x.yaml:3: wrong type for include: {"a": 1} is not a file name',
                "evals/eval_x.yaml:3: wrong type for include: '' is not a file name",
            ],
        ),
        ("list.yaml", ["evals/list.yaml:1: the top level must be a mapping of keys, not a list"]),
    ],
)
def test_includes_that_make_no_sense_are_problems(
    folder: Folder, include: str, messages: list[str]
) -> None:
    folder.write("loop.yaml", "include: eval_x.yaml\n")
    folder.write("list.yaml", "[a]\n")
    assert folder.problems(f"{MINIMAL}include: {include}\n") == messages


def test_files_that_include_each_other_many_times_over_come_to_an_end(folder: Folder) -> None:
    for n in range(20):
        folder.write(f"f{n}.yaml", f"include: [f{n + 1}.yaml, f{n + 1}.yaml]\n")
    folder.write("f20.yaml", "runs: 2\n")
    messages = folder.problems(f"{MINIMAL}include: f0.yaml\n")
    assert all("more than 100 files are included" in message for message in messages)


def test_null_includes_nothing(folder: Folder) -> None:
    assert len(folder.load(f"{MINIMAL}include: null\n")) == 1
