"""Secrets are taken out of whatever is written and shown, and nothing else is."""

from __future__ import annotations

import base64
import html
import json
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_siren.jobs import redact as module
from pytest_siren.jobs.redact import (
    ENVIRONMENT,
    Redactor,
    is_secret_name,
    looks_like_a_key,
    of_config,
    of_override,
    shown_override,
    without_patterns,
)
from pytest_siren.jobs.writing.write import Form, append, put, write

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
    "Ocp-Apim-Subscription-Key",
    "X-Amz-Security-Token",
    "PRIVATE-TOKEN",
    "api_token",
    "PGPASSWORD",
    "SharedAccessKey",
    "aws_secret_access_key",
]
VALUE = "hunter2-and-more"
TOKEN = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGH0123456789", min_size=12, max_size=40)
ODD_VALUES = [
    "Tr0ub4dor&3",
    "hunter2",
    'q"7\\odd-value',
    "correct horse battery staple",
    "/9j+4AAQSkZJRg/abc==",
    "pässwörter-größer",
    "päßwörter",
    'it\'s <a> & "b" key\n2',
    "%41+b/c?d=e&f",
]


@pytest.fixture(autouse=True)
def _look_at_the_environment_anew() -> None:
    module._environment.cache_clear()


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "text", ["{}", "it said {}.", "key={}", "({})", '"{}"', "a\n{}\nb", "Incorrect API key: {}!"]
)
def test_keys_of_known_services_are_known_by_their_form(secret: str, text: str) -> None:
    found = without_patterns(text.format(secret))
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
        lambda name: repr([(name.encode(), VALUE.encode()), (b"Accept", b"*/*")]),
        lambda name: f"GET / HTTP/1.1\r\n{name}: {VALUE}\r\nAccept: */*",
    ],
    ids=["plain", "nested", "pairs", "json", "json-in-json", "repr", "bytes", "raw"],
)
def test_headers_that_authenticate_lose_their_values(header: str, shape: Any) -> None:
    before = json.dumps(shape(header))
    after = without_patterns(before)
    assert VALUE not in after
    assert header in after
    assert after.count("*/*") == before.count("*/*")


def test_every_cookie_and_every_part_of_a_signature_is_redacted() -> None:
    text = "Cookie: a=first-one; session=second-one; c=third-one\nAccept: */*"
    assert without_patterns(text) == "Cookie: <redacted>\nAccept: */*"
    text = 'Cookie: a="first one"; session=second-one\nAccept: */*'
    assert without_patterns(text) == "Cookie: <redacted>\nAccept: */*"
    text = json.dumps({"message": 'bad Cookie: a="first one"; b=second-one', "code": 400})
    assert without_patterns(text) == '{"message": "bad Cookie: <redacted>", "code": 400}'
    text = "Authorization: Digest username=ada, response=abcdef0123\nnext"
    assert without_patterns(text) == "Authorization: <redacted>\nnext"


def test_a_traceback_is_kept_without_its_secret() -> None:
    try:
        raise PermissionError(f"401: {{'authorization': 'Bearer {VALUE}'}} for {SECRETS[0]}")
    except PermissionError:
        text = traceback.format_exc()
    found = without_patterns(text)
    assert VALUE not in found
    assert SECRETS[0] not in found
    assert found.startswith("Traceback (most recent call last):")
    assert "PermissionError: 401: " in found


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("postgres://ada:hunter2@db/x", "postgres://ada:<redacted>@db/x"),
        ("https://u:p4ss@h/a?b=1", "https://u:<redacted>@h/a?b=1"),
        ("postgres://ada:hunt@r2@db/x", "postgres://ada:<redacted>@db/x"),
        ("https://a1b2c3d4e5f6a1b2c3d4@h/x", "https://<redacted>@h/x"),
        (
            "https://h/x?subscription-key=abcdef123&z=1",
            "https://h/x?subscription-key=<redacted>&z=1",
        ),
        ("api key provided: a1B2c3D4a1B2c3D4a1B2!", "api key provided: <redacted>!"),
        ("the API key 'a1B2c3D4a1B2c3D4a1B2' is bad", "the API key '<redacted>' is bad"),
        ('{"token":"a1B2c3D4a1B2c3D4a1B2"}', '{"token":"<redacted>"}'),
        ("https://h/x?api_key=abcdef123&z=1", "https://h/x?api_key=<redacted>&z=1"),
        ("Bearer abcdefghijklmnop", "Bearer <redacted>"),
        ("host=db password=hunter2 user=x", "host=db password=<redacted> user=x"),
        ("Authorization: Basic YWRhOmh1bnRlcjI=", "Authorization: Basic <redacted>"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE", "-----BEGIN PRIVATE KEY-----<redacted>"),
    ],
)
def test_urls_and_tokens_keep_what_is_no_secret(text: str, left: str) -> None:
    assert without_patterns(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "the password is a word, and so is the token",
        "the secret is kept in kubernetes/production_namespace",
        "unexpected token 'identifier_of_a_long_name'",
        "https://user-of-a-long-name.example.org/a@b",
        "https://example.org:8080/a@b",
        "sk-8 is a road",
        "authorization is needed",
        "{'tokens': 12, 'key': 'value', 'input_tokens': 3}",
        "Please update my password to 1j1l-2k3j.",
        "max_tokens=4096 total_tokens=123456",
    ],
)
def test_what_is_no_secret_is_left_alone(text: str) -> None:
    assert ENVIRONMENT.text(text) == text


@pytest.mark.parametrize("value", ODD_VALUES)
def test_a_known_value_is_found_in_every_form(value: str) -> None:
    secrets = Redactor(frozenset({value}))
    nested = value
    for _ in range(3):
        nested = json.dumps({"a": nested})
        assert json.dumps(value)[1:-1] not in secrets.known(nested)
        assert "<redacted>" in secrets.known(nested)
    unicode = json.dumps(json.dumps({"a": value}, ensure_ascii=False), ensure_ascii=False)
    forms = [value, unicode, repr(value), html.escape(value), quote(value), quote_plus(value)]
    for form in forms:
        assert secrets.known(f"see {form} there").count("<redacted>") == 1
    if len(value) >= 12:
        for before in ("", "u:", "abc"):
            encoded = base64.b64encode(f"{before}{value}".encode()).decode()
            assert "<redacted>" in secrets.known(f"see {encoded}")


def test_a_known_value_is_taken_out_of_all_kinds_of_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MY_SERVICE_API_KEY", 'q"7\\odd-value')
    monkeypatch.setenv("PGPASSWORD", "Tr0ub4dor&3")
    monkeypatch.setenv("PLAIN_TOKEN", "password")
    monkeypatch.setenv("SSH_KEY_FILE", "id_rsa_2024_A")
    monkeypatch.setenv("HARMLESS", "abcDEF123456")
    monkeypatch.setenv("REDIS_URL", "redis://ada:s3cr3t-pw@localhost")
    said = 'q"7\\odd-value Tr0ub4dor&3 password id_rsa_2024_A abcDEF123456 s3cr3t-pw'
    expected = "<redacted> <redacted> password id_rsa_2024_A abcDEF123456 <redacted>"
    record = {"output": said, "deep": [{said: json.dumps({"x": said})}]}
    write(tmp_path / "r.json", record, Form.PART)
    put(str(tmp_path / "p.json"), record).close()
    append(tmp_path / "l.jsonl", [record])
    write(
        tmp_path / "c.yaml",
        {"agent": {"config": record}, "attack": {"config": record}},
        Form.SNAPSHOT,
    )
    for name in ("r.json", "p.json", "l.jsonl"):
        found = json.loads((tmp_path / name).read_bytes())
        assert found["output"] == expected
        assert "Tr0ub4dor" not in json.dumps(found["deep"][0][said])
    config = yaml.safe_load((tmp_path / "c.yaml").read_bytes())
    assert config["agent"]["config"]["output"] == config["attack"]["config"]["output"] == expected
    assert "Tr0ub4dor" not in (tmp_path / "c.yaml").read_text("utf-8")


EVIDENCE = {
    "output": "Cookie: session-abc; Authorization: Bearer abcdefghijklmnopqrstuvwxyz",
    "messages": [
        {
            "kind": "response",
            "parts": [
                {
                    "part_kind": "tool-call",
                    "tool_name": "login",
                    "args": {"access_token": "sk-proj-" + "a1B2" * 8, "password": "1j1l-2k3j"},
                }
            ],
        }
    ],
    "attacks": {"mail": {"content": "open https://u:p4ssword@evil.example", "kind": "str"}},
}


def test_what_was_said_is_evidence(tmp_path: Path) -> None:
    write(tmp_path / "execution.json", EVIDENCE, Form.PART)
    assert json.loads((tmp_path / "execution.json").read_bytes()) == EVIDENCE


@pytest.mark.parametrize("value", ["oauth2-proxy", "tool-call", "response1", "test", "none"])
def test_identifiers_are_never_rewritten(
    value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DB_AUTH", value)
    names = dict.fromkeys(("task_id", "run_id", "identity", "dataset", "model", "attack"), value)
    names |= {"path": f"{value}/x", "nodeid": f"evals/eval_x.yaml::{value}"}
    record = {
        **names,
        "output": f"see {value}",
        "messages": [
            {"kind": value, "parts": [{"part_kind": value, "tool_name": value, "content": "x"}]}
        ],
    }
    write(tmp_path / "r.json", record, Form.PART)
    append(tmp_path / "l.jsonl", [record])
    for name in ("r.json", "l.jsonl"):
        found = json.loads((tmp_path / name).read_bytes())
        assert {key: found[key] for key in names} == names
        assert found["messages"] == record["messages"]


def test_short_values_are_found_as_words_only() -> None:
    secrets = Redactor(frozenset({"hunter2"}))
    assert secrets.known("hunter2 xhunter2 hunter22 (hunter2)") == (
        "<redacted> xhunter2 hunter22 (<redacted>)"
    )


def test_a_configuration_keeps_the_scenario_and_loses_settings_that_are_secret() -> None:
    key = "my-own-key-123"
    config = {
        "name": "x",
        "dataset": {
            "type": "inline",
            "config": {
                "api_key": key,
                "headers": {"Cookie": "a=1; b=22222222"},
                "tasks": [{"prompt": "Cookie: session-abc", "state": {"password": "1j1l-2k3j"}}],
            },
        },
        "attack": {
            "type": "dict",
            "config": {"attack_template": "Authorization: Bearer abcdefghijklmnop"},
        },
        "agent": {
            "config": {
                "api_key": key,
                "password": "short",
                "base_url": "http://ada:pw-of-ada@h/v1",
                "max_tokens": 5,
                "key": "id",
                "extra": {"headers": {"Authorization": "Bearer xyz12345"}, "proxy": f"x {key}"},
            }
        },
        "invocation": {"set": [f"agent.config.api_key={key}", "execution.concurrency=3"]},
        "cell": {"agent.config.api_key": key},
    }
    values = of_config(config)
    assert values == {key, "pw-of-ada", "a=1; b=22222222", "Bearer xyz12345"}
    found = Redactor(frozenset(values)).config(config)
    assert found["dataset"]["config"] == {
        "api_key": "<redacted>",
        "headers": {"Cookie": "<redacted>"},
        "tasks": config["dataset"]["config"]["tasks"],  # type: ignore[index]
    }
    assert found["attack"] == config["attack"]
    assert found["agent"]["config"] == {
        "api_key": "<redacted>",
        "password": "<redacted>",
        "base_url": "http://ada:<redacted>@h/v1",
        "max_tokens": 5,
        "key": "id",
        "extra": {"headers": {"Authorization": "<redacted>"}, "proxy": "x <redacted>"},
    }
    assert found["invocation"]["set"] == [
        "agent.config.api_key=<redacted>",
        "execution.concurrency=3",
    ]
    assert found["cell"] == {"agent.config.api_key": "<redacted>"}


@pytest.mark.parametrize(
    ("name", "value", "hidden"),
    [
        ("api_key", "x", True),
        ("password", "short", True),
        ("password", 1234, True),
        ("token", "abcdef-123", True),
        ("Authorization", "Basic x", True),
        ("api_key", "none", False),
        ("api_key", None, False),
        ("eos_token", "</s>", False),
        ("sort_key", "name", False),
        ("attack_pass", 1, False),
        ("budget_tokens", 100_000, False),
        ("count_tokens_before_request", True, False),
    ],
)
def test_settings_that_are_hidden(name: str, value: Any, *, hidden: bool) -> None:
    settings = {"agent": {"config": {"model_settings": {name: value}}}}
    shown = ENVIRONMENT.config(settings)["agent"]["config"]["model_settings"][name]
    assert shown == ("<redacted>" if hidden else value)


def test_what_a_session_is_resumed_by_stays_as_it_is() -> None:
    asked = {"pass_k": [1, 5], "keyword": "Cookie: a=b", "set": ["agent.config.api_key=x", "a=b"]}
    assert ENVIRONMENT.config({"invocation": asked, "overrides": [asked]})["overrides"] == [
        {**asked, "set": ["agent.config.api_key=<redacted>", "a=b"]}
    ]


def test_overrides_are_shown_without_their_secrets() -> None:
    assert shown_override("agent.config.api_key=abc") == "agent.config.api_key=<redacted>"
    assert shown_override("agent.config.url=http://u:pw@h") == (
        "agent.config.url=http://u:<redacted>@h"
    )
    assert shown_override("runs=3") == "runs=3"
    assert shown_override("~agent.config.api_key") == "~agent.config.api_key"
    swept = of_override("agent.config.api_key='first-key-1,second-key-2'")
    assert {"first-key-1", "second-key-2"} <= set(swept)


@pytest.mark.parametrize(
    "name",
    "OPENAI_API_KEY PGPASSWORD MYSQL_PWD AWS_CREDS X_CREDENTIALS GPG_PASSPHRASE GITHUB_PAT apiKey "
    "AWS_SECRET_ACCESS_KEY DB_AUTH x-api-key Authorization password API_KEY_2 OPENAI_API_KEY2 "
    "SENTRY_DSN SECRET_KEY_BASE accessToken Set-Cookie HF_TOKEN DB_PASS user_pwd".split(),
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    "PWD OLDPWD SSH_AUTH_SOCK MAX_TOKENS SSH_KEY_FILE AWS_ACCESS_KEY_ID PATH PATTERN monkey "
    "PUBLIC_KEY TOKENIZERS_PARALLELISM max_tokens input_tokens token_count AUTH_URL author "
    "pass_k pass_when".split(),
)
def test_names_of_other_things(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("ab1", False),
        ("password", False),
        ("postgres", False),
        ("12345678", False),
        ("/usr/bin/env", False),
        ("/run/secrets/key.pem", False),
        ("      ", False),
        ("hunter2", True),
        ("abcdef12", True),
        ("Abcdefgh", True),
        ("Tr0ub4dor&3", True),
        ("correct horse battery staple", True),
        ("/9j+4AAQSkZJRg/abc==", True),
        ("päßwörter", True),
    ],
)
def test_a_key_is_long_or_mixed(value: str, *, key: bool) -> None:
    assert looks_like_a_key(value) is key


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_json_stays_json_and_twice_is_once(value: Any) -> None:
    once = without_patterns(json.dumps(value))
    json.loads(once)
    assert without_patterns(once) == once


@given(JSON, TOKEN, st.sampled_from(HEADERS), st.integers(0, 3))
def test_a_secret_is_found_at_any_depth(value: Any, token: str, name: str, depth: int) -> None:
    assume(token not in json.dumps(value))
    nested: Any = {name: token}
    for level in range(depth):
        nested = [value, nested] if level % 2 else {"a": value, "b": json.dumps(nested)}
    after = without_patterns(json.dumps(nested))
    assert token not in after
    json.loads(after)


@given(st.text(), st.sampled_from(ODD_VALUES), st.text())
def test_known_values_leave_everything_else(before: str, value: str, after: str) -> None:
    assume(value not in before and value not in after)
    assert Redactor(frozenset({value})).known(f"{before} {value}!{after}") == (
        f"{before} <redacted>!{after}".encode(errors="backslashreplace").decode()
    )


@pytest.mark.parametrize("spaces", range(1, 20))
def test_a_bearer_token_is_redacted_whatever_stands_before_it(spaces: int) -> None:
    assert without_patterns("bearer" + " " * spaces + "abcdefghijklmnop") == (
        "bearer" + " " * spaces + "<redacted>"
    )


def test_what_an_mcp_server_of_a_dataset_is_given_is_a_secret_and_other_tools_are_not() -> None:
    server = {
        "url": "http://h/mcp",
        "headers": {"Authorization": "Bearer shop-0123456789abcdef", "X-Tenant": "shop"},
        "env": {"SHOP_TOKEN": "other-0123456789abcdef", "LANG": "en_GB"},
    }
    tools = ["shop:read", {"mcp": server}, {"path": "shop:write", "name": "api_key"}]
    config = {"dataset": {"type": "inline", "config": {"tools": tools}}}
    values = of_config(config)
    assert values == {
        "Bearer shop-0123456789abcdef",
        "shop-0123456789abcdef",
        "other-0123456789abcdef",
    }
    [read, hidden, write_] = Redactor().config(config)["dataset"]["config"]["tools"]
    assert (read, write_) == (tools[0], tools[2])
    assert hidden["mcp"] == {
        "url": "http://h/mcp",
        "headers": {"Authorization": "<redacted>", "X-Tenant": "shop"},
        "env": {"SHOP_TOKEN": "<redacted>", "LANG": "en_GB"},
    }
