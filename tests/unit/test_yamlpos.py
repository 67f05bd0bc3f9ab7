"""Reading YAML: lines, plain scalars, and everything that a file may not hold."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_siren.yamlpos.reader import decode_yaml, parse_yaml, read_yaml, resolve_dumped
from tests.unit.spec_sample import Folder

FILE = Path("f.yaml")


def problems(text: str) -> list[str]:
    return [str(problem) for problem in parse_yaml(text, FILE)[1]]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("off", "off"),
        ("12:30", "12:30"),
        ("007", "007"),
        ("1_000", "1_000"),
        ("2024-01-31", "2024-01-31"),
        ("1e-3", 0.001),
        ("-.5", -0.5),
        ("3.", 3.0),
        ("0x1F", 31),
        ("0o17", 15),
        ("-12", -12),
        ("9" * 101, "9" * 101),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("'3'", "3"),
        ("!!str 3", "3"),
        ('"null"', "null"),
    ],
)
def test_plain_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: Any) -> None:
    root, found = parse_yaml(f"key: {text}", FILE)
    assert found == []
    assert root is not None
    assert root.plain() == {"key": value}
    assert type(root.plain()["key"]) is type(value)


@pytest.mark.parametrize("text", [".nan", ".inf", "-.INF", "1e999"])
def test_numbers_that_json_cannot_hold_are_problems(text: str) -> None:
    assert problems(f"a: 1\nb: {text}") == [
        f"f.yaml:2: {text!r} is not a finite number (put text in quotes)"
    ]


def test_every_value_knows_the_line_of_its_key() -> None:
    text = "a: 1\nb:\n  - x\n  -\n    c: 2\n    d:\n      [3,\n      4]\n"
    root, _ = parse_yaml(text, FILE)
    assert root is not None
    places: dict[tuple[str | int, ...], int] = {
        (): 1,
        ("a",): 1,
        ("b",): 2,
        ("b", 0): 3,
        ("b", 1): 5,
        ("b", 1, "c"): 5,
        ("b", 1, "d"): 6,
        ("b", 1, "d", 1): 8,
    }
    for path, line in places.items():
        node = root.at(path)
        assert node is not None
        assert node.place.line == line, path


def test_keys_are_text_whatever_they_look_like() -> None:
    root, _ = parse_yaml("1: a\non: b\nnull: c\n1.50: d\n", FILE)
    assert root is not None
    assert root.plain() == {"1": "a", "on": "b", "null": "c", "1.50": "d"}


def test_an_alias_repeats_a_value_and_keeps_its_lines() -> None:
    root, found = parse_yaml("base: &b\n  x: 1\nmore: *b\n", FILE)
    assert found == []
    assert root is not None
    assert root.plain() == {"base": {"x": 1}, "more": {"x": 1}}
    more, inside = root.at(("more",)), root.at(("more", "x"))
    assert more is not None
    assert inside is not None
    assert (more.place.line, inside.place.line) == (3, 2)


def test_a_merge_key_gives_way_to_keys_written_out_and_to_earlier_sources() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {z: 3, <<: [*a, *b]}\n"
    root, found = parse_yaml(text, FILE)
    assert found == []
    assert root is not None
    assert root.plain()["c"] == {"x": 1, "y": 1, "z": 3}


def test_a_merge_key_in_quotes_is_a_key_like_any_other() -> None:
    root, _ = parse_yaml('"<<": 1', FILE)
    assert root is not None
    assert root.plain() == {"<<": 1}


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("a: 1\nb: 2\na: 3\n", ["f.yaml:3: duplicate key 'a' (first on line 1)"]),
        (
            "x:\n  - {b: 1}\n  - c: 1\n    c: 2\n",
            ["f.yaml:4: duplicate key 'c' in x[1] (first on line 3)"],
        ),
        (
            "a: 1\na: 2\nb: 1\nb: 2\n",
            [
                "f.yaml:2: duplicate key 'a' (first on line 1)",
                "f.yaml:4: duplicate key 'b' (first on line 3)",
            ],
        ),
        ("a: 1\n---\nb: 2\n", ["f.yaml:2: a second YAML document begins here; a file holds one"]),
        ("a:\n\t- 1\n", ["f.yaml:2: the line is indented with a tab; YAML wants spaces"]),
        (
            "a: 1\nb: [1, 2\n",
            ["f.yaml:2: invalid YAML: it ends while parsing a flow sequence"],
        ),
        ("a: *b\n", ["f.yaml:1: unknown alias '*b': no anchor '&b' precedes it"]),
        ("a: &a\n  - *a\n", ["f.yaml:2: the alias '*a' is part of what it repeats"]),
        ("k: &k x\n*k : 1\n", ["f.yaml:2: the alias '*k' cannot be a key"]),
        ("? [1, 2]\n: 3\n", ["f.yaml:1: a key must be text, not a list or a mapping"]),
        ("a: 1\n<<: 3\n", ["f.yaml:2: '<<' takes a mapping or a list of mappings"]),
        (
            "a: !!python/object/apply:os.system [x]\n",
            [
                "f.yaml:1: the YAML tag '!!python/object/apply:os.system' is not allowed: "
                "files hold plain data"
            ],
        ),
        (
            "a: !!set {x}\n",
            ["f.yaml:1: the YAML tag '!!set' is not allowed: files hold plain data"],
        ),
        ("a: 1\nb: \x07\n", ["f.yaml:2: YAML does not allow the character U+0007"]),
        ("a: " + "[" * 100, ["f.yaml:1: nested deeper than 100 levels"]),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(text: str, messages: list[str]) -> None:
    assert problems(text) == messages


def test_other_errors_of_syntax_are_the_parsers_own() -> None:
    [message] = problems("a: 1\nb: c: d\n")
    assert message.startswith("f.yaml:2: invalid YAML: mapping values are not allowed ")


def test_a_bomb_of_aliases_is_refused_at_once() -> None:
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert problems("\n".join(lines)) == [
        "f.yaml:5: the aliases expand to more than 100,000 values"
    ]


def test_aliases_cannot_stack_up_depth() -> None:
    text = "a: &a " + "[" * 60 + "x" + "]" * 60 + "\nb: " + "[" * 60 + "*a" + "]" * 60
    assert problems(text) == ["f.yaml:2: nested deeper than 100 levels"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "e.yaml: the file is empty"),
        (b"# nothing\n", "e.yaml: the file is empty"),
        (b"---\n", "e.yaml: the file is empty"),
        (b"\n- a\n", "e.yaml:2: the top level must be a mapping of keys, not a list"),
        (b"text\n", "e.yaml:1: the top level must be a mapping of keys, not a single value"),
        (b"a: 1\nb: \xff\n", "e.yaml:2: not UTF-8 text (byte 0xff)"),
    ],
)
def test_a_file_must_hold_one_mapping(tmp_path: Path, content: bytes, message: str) -> None:
    file = Folder(tmp_path).write("e.yaml", content)
    root, found = read_yaml(file, Path("e.yaml"))
    assert root is None
    assert [str(problem) for problem in found] == [message]


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    file = Folder(tmp_path).write("e.yaml", b"\xef\xbb\xbfa: 1\n")
    root, found = read_yaml(file, Path("e.yaml"))
    assert found == []
    assert root is not None
    assert root.plain() == {"a": 1}


def test_a_file_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    root, found = read_yaml(tmp_path / "none.yaml", Path("none.yaml"))
    assert root is None
    assert [str(problem) for problem in found] == [
        "none.yaml: cannot be read: No such file or directory"
    ]


def test_what_pyyaml_has_dumped_is_read_as_it_was_meant() -> None:
    texts = [
        "1e3",
        "-1E+05",
        "0o17",
        "NO",
        "off",
        "12:30",
        "007",
        "2024-01-01",
        "~",
        "1.5",
        "=",
        "<<",
    ]
    values = {"texts": texts, "numbers": [1e300, 1e-7, -0.5, 3, 0], "rest": [None, True, {}, []]}
    for dumper in (yaml.SafeDumper, getattr(yaml, "CSafeDumper", yaml.SafeDumper)):
        data = yaml.dump(values, Dumper=dumper).encode()
        root, found = decode_yaml(data, FILE, resolve_dumped)
        assert found == []
        assert root is not None
        assert root.plain() == values


def test_a_large_file_may_repeat_more(tmp_path: Path) -> None:
    lines = ["- &shared [a, b, c, d, e, f, g, h]", *["- [1, *shared]"] * 20_000]
    root, found = parse_yaml("\n".join(lines), FILE)
    assert found == []
    assert root is not None
    assert root.size == 1 + 9 + 20_000 * 11


def test_pipes_and_devices_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for name in ("pipe", "link"):
        root, found = read_yaml(tmp_path / name, FILE)
        assert root is None
        assert [str(one) for one in found] == ["f.yaml: cannot be read: it is no regular file"]
