from __future__ import annotations

import json
import multiprocessing
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st

import pytest_siren.jobs
from pytest_siren.jobs.redact import ENVIRONMENT
from pytest_siren.jobs.writing.write import Form, append, write

SPAWN = multiprocessing.get_context("spawn")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_document_is_replaced_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write(path, {"a": "x" * 10_000}, Form.DOCUMENT)
    write(path, {"a": 1, "é": [None, True, 1.5]}, Form.DOCUMENT, sync=True)
    assert path.read_text(encoding="utf-8") == (
        '{\n  "a": 1,\n  "é": [\n    null,\n    true,\n    1.5\n  ]\n}\n'
    )
    assert names(tmp_path) == ["result.json"]


@pytest.mark.parametrize("form", [Form.DOCUMENT, Form.SNAPSHOT])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "old.json"
    path.write_text("old", encoding="utf-8")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(path, {"a": 1}, form, sync=True)
    assert path.read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["old.json"]


def test_sync_reaches_the_disk_before_the_file_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "result.json"
    seen = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append(path.exists()))
    write(path, {}, Form.DOCUMENT)
    assert seen == []
    path.unlink()
    write(path, {}, Form.DOCUMENT, sync=True)
    assert seen == [False]


def test_a_snapshot_is_never_written_twice(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    write(path, {"b": 1, "a": "é\n🔥"}, Form.SNAPSHOT, header=["Job: x", "Mode: benign"])
    with pytest.raises(FileExistsError):
        write(path, {"b": 2}, Form.SNAPSHOT)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# Job: x\n# Mode: benign\n\nb: 1\na: ")
    assert yaml.safe_load(text) == {"b": 1, "a": "é\n🔥"}
    assert names(tmp_path) == ["config.yaml"]


def test_a_snapshot_is_exclusive_without_hard_links_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # File systems without hard links (exFAT, some network shares) cannot be had in a test.
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "config.yaml"
    write(path, {"a": 1}, Form.SNAPSHOT)
    with pytest.raises(FileExistsError):
        write(path, {"a": 2}, Form.SNAPSHOT)
    assert yaml.safe_load(path.read_text(encoding="utf-8")) == {"a": 1}
    assert names(tmp_path) == ["config.yaml"]


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("\x1b\x7f\x85\x9b\u2028\u2029\u202a\u202e\u2066\u2069")
@example('\u0082\u202f\u2065\u206a\xc2\xe2\\"é\n')
def test_showing_a_file_on_a_terminal_is_safe(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.mktemp("run") / "result.json"
    write(path, {"key" + text: text}, Form.DOCUMENT)
    shown = path.read_text(encoding="utf-8")
    assert json.loads(shown) == {"key" + text: text}
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", shown)


def test_lines_are_appended_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "index.jsonl"
    append(path, [{"a": "x\ny\u2028z"}])
    append(path, [{"a": 2}])
    assert path.read_bytes() == b'{"a":"x\\ny\\u2028z"}\n{"a":2}\n'


def test_a_torn_line_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "index.jsonl"
    append(path, [{"a": 1}])
    with path.open("ab") as file:
        file.write(b'{"a": "\xc3')
    append(path, [{"a": 3}])
    assert path.read_bytes().split(b"\n") == [b'{"a":1}', b'{"a": "\xc3', b'{"a":3}', b""]


def test_half_a_line_on_a_full_disk_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:3]))
    with pytest.raises(OSError, match=r"index\.jsonl: only 3 of 8 bytes of a line were written"):
        append(tmp_path / "index.jsonl", [{"a": 1}])


def _append_many(path: Path, writer: int) -> None:
    for number in range(100):
        append(path, [{"writer": writer, "number": number, "text": "x" * 5_000}])


def test_lines_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "index.jsonl"
    processes = [SPAWN.Process(target=_append_many, args=(path, n)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert sorted((line["writer"], line["number"]) for line in found) == [
        (writer, number) for writer in range(3) for number in range(100)
    ]


YAML_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), YAML_VALUES))
def test_any_configuration_can_be_read_back(
    tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any]
) -> None:
    # A key such as agent.APIKEY makes its value a secret.
    assume(ENVIRONMENT.config(_spelled(config)) == _spelled(config))
    path = tmp_path_factory.mktemp("job") / "config.yaml"
    write(path, config, Form.SNAPSHOT, header=["Job: x"])
    assert yaml.safe_load(path.read_bytes()) == _spelled(config)


def _spelled(value: Any) -> Any:
    match value:
        case float() if value in (float("inf"), float("-inf")):
            return "Infinity" if value > 0 else "-Infinity"
        case dict():
            return {key: _spelled(item) for key, item in value.items()}
        case list():
            return [_spelled(item) for item in value]
    return value


def test_no_other_module_of_jobs_writes_files() -> None:
    """What ``index.py`` writes are lines that ``write.py`` has made, without secrets.

    Exports are no part of a job: they hold what its records hold.
    """
    writing = re.compile(r"write_text|write_bytes|os\.write|os\.open|\bopen\(.*[\"'][rb]*[wax+]")
    [folder] = pytest_siren.jobs.__path__
    found = sorted(Path(folder).rglob("*.py"))
    modules = [path for path in found if path.parent.name != "exporting"]
    written = [path.name for path in modules if writing.search(path.read_text("utf-8"))]
    assert written == ["index.py", "write.py"]
