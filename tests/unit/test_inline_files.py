"""Tasks in JSONL, CSV and YAML files."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest

from pytest_siren.datasets.inline import InlineConfig, InlineDataset, InlineError, component
from pytest_siren.datasets.inline.rows import SUFFIXES, read_rows
from pytest_siren.yamlpos.reader import parse_yaml
from tests.unit.inline_sample import HOSTILE

PASS = {"x": {"type": "contains", "value": "ok"}}
_CSV_HEAD = "id,prompt,contains\n"


def load(base: Path, **config: Any) -> InlineDataset:
    dataset = component.build(component.config.model_validate(config), base)
    assert isinstance(dataset, InlineDataset)
    return dataset


def failure(base: Path, name: str, text: str | bytes, **config: Any) -> str:
    """Return the error of a dataset whose benign tasks are in a file."""
    (base / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InlineError) as caught:
        load(base, tasks_file=name, **config)
    return str(caught.value)


def jsonl(*tasks: Any) -> str:
    return "".join(json.dumps(task) + "\n" for task in tasks)


def test_the_same_tasks_in_every_format(tmp_path: Path) -> None:
    task = {
        "id": "b",
        "prompt": f"Read {{mail}}, say ok. {HOSTILE}".replace("\x00", ""),
        "system_prompt": "Be brief.",
        "vectors": {"mail": "no mail"},
        "evaluators": PASS,
        "ground_truth": {"output": "ok"},
    }
    (tmp_path / "tasks.jsonl").write_text("\n" + jsonl(task), encoding="utf-8")
    (tmp_path / "tasks.yaml").write_text(json.dumps([task]), encoding="utf-8")
    with (tmp_path / "tasks.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(task)
        rows.writerow(v if isinstance(v, str) else json.dumps(v) for v in task.values())
    built = [load(tmp_path, tasks_file=f"tasks.{kind}") for kind in ("jsonl", "yaml", "csv")]
    for dataset in built:
        (benign,) = dataset.benign_tasks
        assert benign.id == "b"
        assert benign.prompt == task["prompt"]
        assert benign.system_prompt == "Be brief."
        assert list(benign.evaluators) == ["x"]
        assert benign.ground_truth is not None
        assert benign.ground_truth.output == "ok"
        assert dataset.environment.vectors == {"mail": "no mail"}


def test_csv_has_columns_for_the_common_evaluators(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text(
        "\ufeffid, prompt,contains,equals,evaluators\n"
        "a,Say ok.,ok,,\n"
        '\nb,"Two\nlines",,ok,"{""r"": {""type"": ""regex"", ""pattern"": ""a""}}"\n'
        'c,Say ok.,ok,,"[{""type"": ""contains"", ""value"": ""no""}]"\n'
        "d,No evaluators.,,,\n",
        encoding="utf-8",
    )
    (tmp_path / "m.csv").write_text("id,goal,contains\nm,Say no.,no\n")
    dataset = load(tmp_path, tasks_file="b.csv", malicious_tasks_file="m.csv")
    assert {task.id: list(task.evaluators) for task in dataset.benign_tasks} == {
        "a": ["contains"],
        "b": ["r", "equals"],
        "c": ["contains", "contains_2"],
        "d": [],
    }
    assert dataset.benign_tasks[1].prompt == "Two\nlines"
    assert [couple.id for couple in dataset.couples] == ["a:m", "b:m", "c:m", "d:m"]
    assert dataset.sources == [tmp_path / "b.csv", tmp_path / "m.csv"]


def test_tasks_of_the_file_follow_those_of_the_config(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "t.yml").write_text("- {id: b, prompt: second}\n")
    dataset = load(tmp_path, tasks=[{"id": "a", "prompt": "first"}], tasks_file="sub/t.yml")
    assert [task.id for task in dataset.benign_tasks] == ["a", "b"]


def test_texts_of_files_are_neither_templates_nor_code(tmp_path: Path) -> None:
    texts = ["{{7*7}} ${HOME} {undeclared} %s", "=1+1", "!!python/name:os.system"]
    tasks = [{"id": f"t{n}", "prompt": text} for n, text in enumerate(texts)]
    (tmp_path / "t.jsonl").write_text(jsonl(*tasks))
    dataset = load(tmp_path, tasks_file="t.jsonl")
    assert [task.prompt for task in dataset.benign_tasks] == texts
    state_prompts = [dataset.environment.prompt(_state(), task) for task in dataset.benign_tasks]
    assert [prompt.text for prompt in state_prompts] == texts


def _state() -> Any:
    from pytest_siren.environments.inline import InlineState

    return InlineState(task=None, contents={})  # type: ignore[arg-type]


def test_separators_inside_json_texts_do_not_end_a_line(tmp_path: Path) -> None:
    text = '{"id": "a", "prompt": "one\u2028two\x85three"}\r\n{"id": "b", "prompt": "x"}'
    (tmp_path / "t.jsonl").write_text(text, encoding="utf-8", newline="")
    dataset = load(tmp_path, tasks_file="t.jsonl")
    assert [task.prompt for task in dataset.benign_tasks] == ["one\u2028two\x85three", "x"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.jsonl", '{"id": "a", "prompt": "x"}\n{"id": ', "t.jsonl:2: not valid JSON: Expecting"),
        ("t.jsonl", "[1]", "t.jsonl:1: a task must be a mapping"),
        ("t.jsonl", '{"id": "a", "id": "b", "prompt": "x"}', "t.jsonl:1: not valid JSON: the key"),
        ("t.jsonl", "[" * 100_000, "t.jsonl:1: not valid JSON: nested too deeply"),
        ("t.jsonl", "\n \n", "t.jsonl: has no tasks"),
        ("t.jsonl", b'\n{"id": "\xff"}', "t.jsonl:2: is not UTF-8: invalid start byte"),
        (
            "t.jsonl",
            '\n{"id": "a", "promt": "x"}',
            "t.jsonl:2: missing key 'prompt'\n"
            "t.jsonl:2: unknown key 'promt' (did you mean 'prompt'?)",
        ),
        ("t.jsonl", '{"id": "a", "prompt": " "}', "t.jsonl:1: prompt: must not be empty"),
        ("t.jsonl", '{"id": 1, "prompt": "x"}', "t.jsonl:1: id: Input should be a valid string"),
        (
            "t.jsonl",
            '{"id": "a", "prompt": "x", "evaluators": [{"type": "regx"}]}',
            "t.jsonl:1: evaluators[0].type: unknown evaluator type 'regx' (did you mean 'regex'?)",
        ),
        (
            "t.jsonl",
            '{"id": "a", "prompt": "x", "evaluators": {"e": {"type": "equals", "valu": "b"}}}',
            "t.jsonl:1: evaluators.e: missing key 'value'\nt.jsonl:1: evaluators.e: unknown key",
        ),
        (
            "t.jsonl",
            '{"id": "a", "prompt": "x", "vectors": {"v": ""}}',
            "t.jsonl:1: vectors.v: {v} is not in the prompt, and there are no tools",
        ),
        ("t.csv", _CSV_HEAD + "a,x\n", "t.csv:2: has 2 cells, the header has 3"),
        ("t.csv", _CSV_HEAD + "a,x,ok\nb,x,ok,y\n", "t.csv:3: has 4 cells, the header has 3"),
        ("t.csv", _CSV_HEAD + 'a,"two\nlines",ok\nb,,ok\n', "t.csv:4: missing key 'prompt'"),
        ("t.csv", _CSV_HEAD + 'a,"open,ok\n', "t.csv:2: not valid CSV: unexpected end of data"),
        (
            "t.csv",
            _CSV_HEAD + "a," + "x" * 200_000 + ",y\n",
            "t.csv:2: not valid CSV: field larger",
        ),
        ("t.csv", _CSV_HEAD, "t.csv: has no tasks"),
        ("t.csv", "id,promt\na,b\n", "t.csv:1: unknown column 'promt' (did you mean 'prompt'?)"),
        ("t.csv", "id,prompt,id\na,b,c\n", "t.csv:1: there are two columns 'id'"),
        ("t.csv", "id,prompt,\na,b,c\n", "t.csv:1: column 3 has no name"),
        ("t.csv", "id,prompt,goal\na,b,c\n", "t.csv:1: unknown column 'goal'"),
        ("t.csv", "id,prompt,vectors\na,b,v=x\n", "t.csv:2: vectors: not valid JSON: Expecting"),
        (
            "t.csv",
            'id,prompt,contains,evaluators\na,b,x,"{""contains"": {}}"\n',
            "t.csv:2: the evaluator 'contains' is also in the column evaluators",
        ),
        ("t.yaml", "id: a\nprompt: b\n", "t.yaml:1: must be a list of tasks"),
        ("t.yaml", "", "t.yaml:1: must be a list of tasks"),
        ("t.yaml", "- id: a\n  prompt: [\n", "t.yaml:2: invalid YAML: it ends "),
        ("t.yaml", "# tasks\n\n- id: a\n- id: b\n  prompt: x\n", "t.yaml:3: missing key 'prompt'"),
        ("t.yaml", "- id: a\n  prompt: x\n  id: b\n", "t.yaml:3: duplicate key 'id'"),
        (
            "t.yaml",
            "- id: a\n  prompt: !!python/object/apply:os.system ['true']\n",
            "t.yaml:2: the YAML tag '!!python/object/apply:os.system' is not allowed",
        ),
        ("t.yaml", "- &a [*a]\n", "t.yaml:1: the alias '*a' is part of what it repeats"),
        ("t.yaml", "\n- id: \x1b\n", "t.yaml:2: YAML does not allow the character U+001B"),
        ("t.yaml", "- " + "[" * 5000, "t.yaml:1: nested deeper than 100 levels"),
        ("t.yaml", "\n- id: 2024-99-99\n", "t.yaml:2: missing key 'prompt'"),
    ],
)
def test_problems_name_file_and_line(
    tmp_path: Path, name: str, text: str | bytes, message: str
) -> None:
    found = failure(tmp_path, name, text)
    assert found.startswith(message)


def test_yaml_that_explodes_is_refused(tmp_path: Path) -> None:
    lines = ["- &x0 [a, a, a, a, a, a, a, a, a, a]"]
    lines += [f"- &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]" for n in range(1, 9)]
    found = failure(tmp_path, "t.yaml", "\n".join(lines))
    assert "the aliases expand to more than 100,000 values" in found


def test_yaml_aliases_are_fine(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(
        "- id: a\n  prompt: x\n  evaluators: &e {ok: {type: contains, value: ok}}\n"
        "- {id: b, prompt: y, evaluators: *e}\n"
    )
    dataset = load(tmp_path, tasks_file="t.yaml")
    assert [list(task.evaluators) for task in dataset.benign_tasks] == [["ok"], ["ok"]]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InlineError) as caught:
        load(tmp_path, tasks_file="none.csv")
    assert str(caught.value) == "none.csv: cannot be read: No such file or directory"
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InlineError, match=r"^folder\.csv: cannot be read: Is a directory"):
        load(tmp_path, tasks_file="folder.csv")


def test_duplicate_ids_name_both_places_across_files(tmp_path: Path) -> None:
    text = jsonl({"id": "a", "prompt": "x"}, {"id": "b", "prompt": "x"}, {"id": "b", "prompt": "y"})
    found = failure(tmp_path, "t.jsonl", text, tasks=[{"id": "a", "prompt": "z"}])
    assert found.split("\n") == [
        "t.jsonl:1: id: the id 'a' is already taken by tasks[0]",
        "t.jsonl:3: id: the id 'b' is already taken by t.jsonl:2",
    ]


def test_couples_are_checked_against_the_tasks_of_files(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(jsonl({"id": "m", "goal": "g", "evaluators": PASS}))
    config = {
        "tasks": [{"id": "b", "prompt": "x"}],
        "malicious_tasks_file": "m.jsonl",
        "couples": ["b:m"],
    }
    assert [couple.id for couple in load(tmp_path, **config).couples] == ["b:m"]
    config["couples"] = ["b:n"]
    with pytest.raises(InlineError) as caught:
        load(tmp_path, **config)
    assert (
        str(caught.value)
        == ("dataset.config.couples[0]: unknown malicious task 'n' (did you mean 'm'?); known: m")
        or str(caught.value) == "dataset.config.couples[0]: unknown malicious task 'n'; known: m"
    )
    ((place, _),) = caught.value.problems
    assert place == ("couples", 0)


def test_malicious_tasks_of_files_need_evaluators(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("id,goal\nm,Say no.\n")
    with pytest.raises(InlineError) as caught:
        load(tmp_path, tasks=[{"id": "b", "prompt": "x"}], malicious_tasks_file="m.csv")
    assert str(caught.value) == "m.csv:2: missing key 'evaluators'"


def test_a_long_list_of_problems_is_cut(tmp_path: Path) -> None:
    found = failure(tmp_path, "t.jsonl", jsonl(*[{"id": "a"}] * 30)).split("\n")
    assert len(found) == 21
    assert found[-1] == "... and 10 more"


def test_thousands_of_tasks_are_read(tmp_path: Path) -> None:
    tasks = [{"id": f"t{n}", "prompt": "x", "evaluators": PASS} for n in range(3000)]
    (tmp_path / "t.jsonl").write_text(jsonl(*tasks))
    assert len(load(tmp_path, tasks_file="t.jsonl").benign_tasks) == 3000


def test_a_config_with_files_reads_nothing_yet() -> None:
    config = InlineConfig.model_validate({"tasks_file": "nowhere.csv", "couples": ["a:b"]})
    assert config.tasks_file == "nowhere.csv"


SCALARS = (
    *("NO", "off", "yes", "12:30", "12:30:45", "007", "0o7", "0x1f", "2024-01-01", "1_000"),
    *("1e3", "1.5", "-3", "~", "null", "true", "True", "n", "012", "=", "'3'", "!!str 3"),
)


@pytest.mark.parametrize("scalar", SCALARS)
def test_a_scalar_is_the_same_in_an_eval_file_and_in_a_tasks_file(
    tmp_path: Path, scalar: str
) -> None:
    task = "{id: a, prompt: x, evaluators: [{type: tool_called, name: t, arguments: {v: %s}}]}"
    inline = parse_yaml(f"tasks: [{task % scalar}]", tmp_path)[0]
    assert inline is not None
    (tmp_path / "t.yaml").write_text(f"- {task % scalar}\n", encoding="utf-8")
    rows = [row.value for row in read_rows(tmp_path / "t.yaml")]
    assert repr(rows) == repr(inline.plain()["tasks"])


def test_a_merge_key_is_the_same_in_a_tasks_file(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(
        "- &first {id: a, prompt: x, evaluators: {e: {type: contains, value: NO}}}\n"
        "- {<<: *first, id: b}\n"
    )
    dataset = load(tmp_path, tasks_file="t.yaml")
    assert [task.id for task in dataset.benign_tasks] == ["a", "b"]
    assert [list(task.evaluators) for task in dataset.benign_tasks] == [["e"], ["e"]]


@pytest.mark.parametrize("scalar", [".inf", "-.inf", ".nan", "1e999"])
def test_no_number_of_a_tasks_file_is_infinite(tmp_path: Path, scalar: str) -> None:
    found = failure(tmp_path, "t.yaml", f"\n- {{id: a, prompt: {scalar}}}\n")
    assert found == f"t.yaml:2: {scalar!r} is not a finite number (put text in quotes) in [0]"
    if scalar == "1e999":
        found = failure(tmp_path, "t.jsonl", '{"id": "a", "prompt": 1e999}')
        assert found == "t.jsonl:1: not valid JSON: 1e999 is not a finite number"


def test_a_value_of_a_wrong_type_is_named(tmp_path: Path) -> None:
    found = failure(tmp_path, "t.yaml", "- {id: true, prompt: [x]}\n")
    assert found.splitlines() == [
        "t.yaml:1: id: Input should be a valid string, not true",
        't.yaml:1: prompt: Input should be a valid string, not ["x"]',
    ]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_tasks_file_that_is_a_pipe_is_refused_at_once(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"t{suffix}")
    with pytest.raises(InlineError, match=rf"^t{suffix}: cannot be read: it is no regular file$"):
        load(tmp_path, tasks_file=f"t{suffix}")
