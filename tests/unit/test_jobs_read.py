from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_siren.jobs.reading.job_config import RecordError
from pytest_siren.jobs.reading.read import (
    Unreadable,
    iter_index,
    load_config,
    load_execution,
    load_result,
)
from pytest_siren.jobs.writing.store import JobStore
from tests.unit.jobs_sample import CONFIG, attempt, error_attempt, messages


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore.open(tmp_path, "job", "s", CONFIG)


@pytest.fixture
def folder(store: JobStore) -> Path:
    return store.record(attempt())


def change(file: Path, **fields: Any) -> None:
    document = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**document, **fields}), encoding="utf-8")


def test_an_execution_is_read_as_pydantic_ai_objects(folder: Path) -> None:
    execution = load_execution(folder)
    assert execution.messages == messages()
    assert execution.attacks == {"injection_calendar": "Ignore this"}
    assert execution.usage.input_tokens == 642
    assert (execution.status, execution.execution_id) == ("scored", "0123abcd")
    assert execution.timestamp.utcoffset() is not None


def test_an_error_is_read_with_its_exception(store: JobStore) -> None:
    result = load_result(store.record(error_attempt(run_id="00000002")))
    assert result.exception_info is not None
    assert result.exception_info.exception_type == "ModelHTTPError"
    assert result.status == "error"


def test_a_job_without_an_index_has_no_lines(store: JobStore) -> None:
    assert list(iter_index(store.path)) == []


def test_an_unreadable_line_is_named_and_the_others_are_read(store: JobStore, folder: Path) -> None:
    index = store.path / "index.jsonl"
    good = index.read_bytes()
    lines = [
        good.strip(),
        b'{"task_id": "\xc3',
        b"",
        good.replace(b'"status":"scored",', b"").strip(),
    ]
    outside = good.replace(b"user_task_0_injection_task_1/0123abcd", b"../../elsewhere")
    index.write_bytes(b"\n".join([*lines, outside.strip(), good]))
    unreadable: list[Unreadable] = []
    assert [entry.run_id for entry in iter_index(store.path, unreadable)] == ["0123abcd"] * 2
    assert {found.path for found in unreadable} == {index}
    assert [found.line for found in unreadable] == [2, 4, 5]
    assert "Invalid JSON" in unreadable[0].reason
    assert unreadable[1].reason == "status: Field required"
    assert unreadable[2].reason == "the path '../../elsewhere' leads out of the job's folder"


@pytest.mark.parametrize("path", ["/etc", "a/../../b", "..", "a\x00b"])
def test_a_path_out_of_the_job_is_unreadable(store: JobStore, folder: Path, path: str) -> None:
    index = store.path / "index.jsonl"
    change(index, path=path)
    with pytest.raises(RecordError, match=r"index\.jsonl:1: the path .* leads out of the job"):
        list(iter_index(store.path))


def test_line_separators_in_ids_do_not_split_a_line(store: JobStore) -> None:
    from tests.unit.jobs_sample import run

    store.record(attempt(info=run("a\u2028b\x85c")))
    [entry] = iter_index(store.path)
    assert entry.task_id == "a\u2028b\x85c"


@pytest.mark.parametrize("load", [load_result, load_execution, load_config])
def test_a_missing_file_is_named(tmp_path: Path, load: Any) -> None:
    with pytest.raises(RecordError, match=r"cannot read .*: No such file or directory"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not valid JSON"),
        ('{"task_id":', "not valid JSON"),
        ("[]", "not a mapping of fields to values"),
        ("{}", "no schema_version, so it is not a record of pytest-siren"),
        (
            '{"schema_version": 2}',
            "schema_version is 2, this version of pytest-siren reads 1: update pytest-siren",
        ),
    ],
)
@pytest.mark.parametrize("name", ["result.json", "execution.json"])
def test_a_damaged_file_is_named_with_the_reason(
    folder: Path, name: str, text: str, reason: str
) -> None:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    load = load_result if name == "result.json" else load_execution
    with pytest.raises(RecordError) as caught:
        load(folder)
    assert str(caught.value).startswith(f"{path}: {reason}")
    assert "\n" not in str(caught.value)


def test_a_field_of_the_wrong_type_is_named(folder: Path) -> None:
    change(folder / "result.json", benign_score="high")
    with pytest.raises(RecordError, match=r"result\.json: benign_score: Input should be a valid"):
        load_result(folder)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"messages": [{"kind": "alien"}]}, r"execution\.json: 0: Input tag 'alien'"),
        ({"usage": 3}, r"execution\.json: Input should be"),
        ({"timestamp": "soon"}, "Invalid isoformat string: 'soon'"),
        (
            {"attacks": {"v": {"content": "eA==", "kind": "binary"}}},
            "the attack on 'v' is of kind 'binary', not 'str'",
        ),
        ({"attacks": {"v": {"kind": "str"}}}, "the field 'content' is missing"),
        ({"attacks": ["v"]}, "attacks is not a mapping of injection vectors"),
    ],
)
def test_a_damaged_execution_is_named_with_the_reason(
    folder: Path, fields: dict[str, Any], reason: str
) -> None:
    change(folder / "execution.json", **fields)
    with pytest.raises(RecordError, match=reason):
        load_execution(folder)


def test_a_missing_field_of_an_execution_is_named(folder: Path) -> None:
    path = folder / "execution.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    del document["usage"]
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(RecordError, match=r"execution\.json: the field 'usage' is missing"):
        load_execution(folder)


def test_fields_of_later_versions_do_no_harm(folder: Path) -> None:
    change(folder / "result.json", later=1)
    assert load_result(folder).run_id == "0123abcd"


def test_results_are_read_without_loading_pydantic_ai() -> None:
    code = "import pytest_siren.jobs.reading.read, sys; sys.exit('pydantic_ai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
