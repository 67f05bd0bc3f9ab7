"""Secrets are taken out of whatever is written, and nothing else is."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_siren.jobs import redact as module
from pytest_siren.jobs.redact import looks_like_a_key, redact
from pytest_siren.jobs.write import Form, append, write

SECRETS = [
    "sk-proj-" + "a1B2" * 8,
    "sk-ant-api03-" + "x9Y8" * 8,
    "ghp_" + "a1B2c3D4" * 5,
    "xoxb-1234567890-abcdefghij",
    "AIza" + "Sy0123456" * 3 + "abcdefgh",
    "hf_" + "abcdEFGH" * 4,
    "AKIAIOSFODNN7EXAMPLE",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijklmnop",
]
HEADERS = [
    "Authorization",
    "authorization",
    "Proxy-Authorization",
    "Cookie",
    "Set-Cookie",
    "X-Api-Key",
    "api_key",
    "apikey",
    "access_token",
    "client_secret",
]
VALUE = "hunter2-and-more"
TOKEN = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGH0123456789", min_size=12, max_size=40)


@pytest.fixture(autouse=True)
def _look_at_the_environment_anew() -> None:
    module._environment.cache_clear()


def redacted(value: Any) -> Any:
    """Return what a reader gets of ``value``."""
    return json.loads(redact(json.dumps(value).encode()))


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "text", ["{}", "it said {}.", "key={}", "({})", '"{}"', "a\n{}\nb", "Incorrect API key: {}!"]
)
def test_keys_of_known_services_are_known_by_their_form(secret: str, text: str) -> None:
    found = redacted(text.format(secret))
    assert secret not in found
    assert "<redacted>" in found


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize(
    "shape",
    [
        lambda name: {name: VALUE},
        lambda name: {"headers": [{"deep": {name: VALUE, "Accept": "*/*"}}]},
        lambda name: [[name, VALUE], ["Accept", "*/*"]],
        lambda name: json.dumps({name: VALUE, "Accept": "*/*"}),
        lambda name: json.dumps({"body": json.dumps({name: VALUE})}),
        lambda name: repr({name: VALUE, "Accept": "*/*"}),
        lambda name: f"GET / HTTP/1.1\r\n{name}: {VALUE}\r\nAccept: */*",
    ],
    ids=["plain", "nested", "pairs", "json", "json-in-json", "repr", "raw"],
)
def test_headers_that_authenticate_lose_their_values(header: str, shape: Any) -> None:
    before = json.dumps(shape(header))
    after = redact(before.encode()).decode()
    assert VALUE not in after
    assert header in after
    assert after.count("*/*") == before.count("*/*")


def test_a_traceback_is_kept_without_its_secret() -> None:
    try:
        raise PermissionError(f"401: {{'authorization': 'Bearer {VALUE}'}} for {SECRETS[0]}")
    except PermissionError:
        text = traceback.format_exc()
    found = redacted({"exception_traceback": text})["exception_traceback"]
    assert VALUE not in found
    assert SECRETS[0] not in found
    assert found.startswith("Traceback (most recent call last):")
    assert "PermissionError: 401: " in found


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("postgres://ada:hunter2@db/x", "postgres://ada:<redacted>@db/x"),
        ("https://u:p4ss@h/a?b=1", "https://u:<redacted>@h/a?b=1"),
        ("https://h/x?api_key=abcdef123&z=1", "https://h/x?api_key=<redacted>&z=1"),
        ("Bearer abcdefghijklmnop", "Bearer <redacted>"),
    ],
)
def test_urls_and_tokens_keep_what_is_no_secret(text: str, left: str) -> None:
    assert redacted(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "the password is a word, and so is the token",
        "https://example.org:8080/a@b",
        "sk-8 is a road",
        "authorization is needed",
        {"password": "1j1l-2k3j", "recipient": "UK12345678901234567890"},
        {"tokens": 12, "key": "value", "input_tokens": 3},
        {"role": "user", "content": "Please update my password to 1j1l-2k3j."},
    ],
)
def test_what_is_no_secret_is_left_alone(text: Any) -> None:
    assert redacted(text) == text


def test_values_of_secret_variables_are_found_wherever_they_stand(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MY_SERVICE_API_KEY", 'q"7\\odd-value')
    monkeypatch.setenv("DB_PASSWORD", "Tr0ub4dor&3")
    monkeypatch.setenv("PLAIN_TOKEN", "password")
    monkeypatch.setenv("SSH_KEY_FILE", "id_rsa_2024_A")
    monkeypatch.setenv("HARMLESS", "abcDEF123456")
    record = {"said": 'q"7\\odd-value Tr0ub4dor&3 password id_rsa_2024_A abcDEF123456'}
    write(tmp_path / "r.json", record, Form.PART)
    write(tmp_path / "c.yaml", record, Form.SNAPSHOT)
    append(tmp_path / "l.jsonl", [record])
    expected = {"said": "<redacted> <redacted> password id_rsa_2024_A abcDEF123456"}
    assert json.loads((tmp_path / "r.json").read_bytes()) == expected
    assert json.loads((tmp_path / "l.jsonl").read_bytes()) == expected
    yaml_said = yaml.safe_load((tmp_path / "c.yaml").read_bytes())["said"]
    assert "Tr0ub4dor&3" not in yaml_said


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("short1A", False),
        ("password", False),
        ("a b c d e 1", False),
        ("/home/a/K1", False),
        ("abcdef12", True),
        ("Abcdefgh", True),
        ("Tr0ub4dor&3", True),
    ],
)
def test_a_key_is_long_and_mixed(value: str, *, key: bool) -> None:
    assert looks_like_a_key(value) is key


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_json_stays_json_and_twice_is_once(value: Any) -> None:
    once = redact(json.dumps(value).encode())
    json.loads(once)
    assert redact(once) == once


@given(JSON, TOKEN, st.sampled_from(HEADERS), st.integers(0, 3))
def test_a_secret_is_found_at_any_depth(value: Any, token: str, name: str, depth: int) -> None:
    assume(token not in json.dumps(value))
    nested: Any = {name: token}
    for level in range(depth):
        nested = [value, nested] if level % 2 else {"a": value, "b": json.dumps(nested)}
    text = json.dumps(nested)
    after = redact(text.encode()).decode()
    assert token not in after
    json.loads(after)


@pytest.mark.parametrize("spaces", range(1, 20))
def test_a_bearer_token_is_redacted_whatever_stands_before_it(spaces: int) -> None:
    assert redact(b"bearer" + b" " * spaces + b"abcdefghijklmnop") == (
        b"bearer" + b" " * spaces + b"<redacted>"
    )
