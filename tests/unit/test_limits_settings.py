"""Keys, addresses and proxies that no request can be sent with."""

from __future__ import annotations

import asyncio
import re
import ssl
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydantic_ai.providers
import pytest
from pydantic_ai.exceptions import ModelAPIError

from pytest_siren.evaluation.models import ModelUnavailableError
from pytest_siren.evaluation.providers import provider_names
from pytest_siren.models.api import EXTRAS, ModelNameError, ModelPackageError, api_model
from pytest_siren.models.llamacpp import LlamaServer
from pytest_siren.models.provider_settings import (
    address_problem,
    key_problem,
    key_variables,
    proxy_problem,
)
from pytest_siren.models.ratelimit.error_class import (
    ErrorKind,
    UnavailableReason,
    classify,
    details_of,
)
from tests.unit.models_sample import RUN

KEY = "sk-abcdefgh12345678"


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        (f"{KEY}\n", "holds a line break"),
        (f"{KEY}\r", "holds a line break"),
        (f"sk-\r\n{KEY}", "holds a line break"),
        (f"\u201c{KEY}\u201d", "holds the character U+201C (left double quotation mark)"),
        (f"{KEY}\u200b", "holds the character U+200B (zero width space)"),
        (f"{KEY}\xa0", "holds the character U+00A0 (no-break space)"),
        (f"{KEY}\x00", "holds the character U+0000 (a control character)"),
        (f"\t{KEY}", "holds the character U+0009 (a control character)"),
        (f" {KEY}", "begins or ends with a space"),
        (f"{KEY} ", "begins or ends with a space"),
        (f'"{KEY}"', "is in quotes"),
        (f"'{KEY}'", "is in quotes"),
        ("schl\u00fcssel", "holds the character U+00FC (latin small letter u with diaeresis)"),
    ],
)
def test_a_key_that_cannot_be_sent_is_named_without_itself(key: str, problem: str) -> None:
    found = key_problem("openai-chat:m", {"OPENAI_API_KEY": key})
    assert found == f"OPENAI_API_KEY {problem}; set it to the API key alone"
    assert KEY not in found


@pytest.mark.parametrize("key", ["", " ", "\n"])
def test_an_empty_key_is_named(key: str) -> None:
    found = key_problem("anthropic:claude", {"ANTHROPIC_API_KEY": key})
    assert found == "ANTHROPIC_API_KEY is empty; set it to the API key"


def test_a_key_that_is_well_or_not_needed_is_no_problem() -> None:
    assert key_problem("openai:m", {"OPENAI_API_KEY": KEY}) is None
    assert key_problem("openai:m", {}) is None
    assert key_problem("ollama:m", {"OLLAMA_API_KEY": ""}) is None
    assert key_problem("google:m", {"GOOGLE_API_KEY": "", "GEMINI_API_KEY": KEY}) is None
    assert key_problem("google:m", {"GEMINI_API_KEY": "a\nb"}) == (
        "GEMINI_API_KEY holds a line break; set it to the API key alone"
    )


def test_the_key_of_every_provider_is_known_by_its_variable() -> None:
    """As pydantic-ai's own sources name it."""
    folder = Path(pydantic_ai.providers.__file__).parent
    for provider in provider_names() - {"bedrock", "google-cloud"}:
        file = folder / f"{provider.replace('-', '_')}.py"
        if not file.exists():
            continue
        read = re.findall(r"getenv\(\s*'(\w+(?:API_KEY|_TOKEN|INFERENCE_KEY))'", file.read_text())
        if read and provider not in ("github-copilot", "bedrock-mantle"):
            assert set(key_variables(f"{provider}:m")) & set(read), (provider, read)


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("127.0.0.1:8000/v1", "does not begin with http:// or https://"),
        ("localhost:8000/v1", "does not begin with http:// or https://"),
        ("api.example.com", "does not begin with http:// or https://"),
        ("htp://api.example.com", "does not begin with http:// or https://"),
        ("http:/api.example.com", "does not begin with http:// or https://"),
        ("", "is empty"),
        ("  ", "is empty"),
        ("http://", "names no host"),
        ("http://:8000", "names no host"),
        ("http://127.0.0.1:99999/v1", "Port out of range"),
        ("http://127.0.0.1:abc/v1", "Port could not be cast"),
        ("http://[::1/v1", "Invalid IPv6 URL"),
        ("http://127.0.0.1:8000/v1\n", "holds a line break"),
        (" http://127.0.0.1:8000/v1", "begins or ends with a space"),
        ('"http://127.0.0.1:8000/v1"', "is in quotes"),
        ("http://bob:pw-secret@127.0.0.1/v1", "holds a user name or a password"),
        ("bob:pw-secret@127.0.0.1/v1", "does not begin with http:// or https://"),
    ],
)
def test_an_address_that_cannot_be_used_is_named(address: str, problem: str) -> None:
    found = address_problem("OPENAI_BASE_URL", address)
    assert found is not None
    assert problem in found
    assert "OPENAI_BASE_URL" in found
    assert "pw-secret" not in found


def test_addresses_that_are_well() -> None:
    for address in ("http://127.0.0.1:8000/v1", "https://api.openai.com/v1/", "http://[::1]:80/v1"):
        assert address_problem("OPENAI_BASE_URL", address) is None


@pytest.mark.parametrize(
    ("proxy", "problem"),
    [
        ("foo:bar", "is not an address"),
        ("http://", "is not an address"),
        ("ftp://proxy:1", "begins with ftp://; proxies are http, https, socks4, socks5, socks5h"),
        ("http://pro xy\n", "is not an address"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named(proxy: str, problem: str) -> None:
    found = proxy_problem("https://api.example.com/v1", {"https": proxy})
    assert found is not None
    assert found.startswith("HTTPS_PROXY")
    assert problem in found
    # It is not on the way.
    assert proxy_problem("http://api.example.com/v1", {"https": proxy}) is None


def test_proxies_that_are_well() -> None:
    for proxy in ("proxy:3128", "http://proxy:3128", "http://bob:pw@proxy:3128"):
        assert proxy_problem("https://api.example.com/v1", {"all": proxy}) is None


@contextmanager
def environment(patch: pytest.MonkeyPatch, **values: str) -> Iterator[None]:
    with patch.context() as context:
        for name, value in values.items():
            context.setenv(name, value)
        yield


def test_the_model_is_unavailable_before_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    good = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "OPENAI_API_KEY": KEY}
    for name, value in (("OPENAI_API_KEY", f"{KEY}\n"), ("OPENAI_BASE_URL", "127.0.0.1:9")):
        with environment(monkeypatch, **{**good, name: value}):
            with pytest.raises(ModelNameError) as raised:
                asyncio.run(api_model("openai:m").bind(RUN))
        assert str(raised.value).startswith(f"model 'openai:m': {name} ")


def test_extras_of_providers_are_pydantic_ais() -> None:
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert {name: extras[name] for name in EXTRAS} == {
        name: [f"pydantic-ai-slim[{name}]>=2.68"] for name in EXTRAS
    }


def test_a_missing_package_names_the_extra() -> None:
    source = api_model("groq:m")
    with pytest.raises(ModelPackageError) as raised:
        asyncio.run(source.bind(RUN))
    assert str(raised.value) == (
        "model 'groq:m': the package of its provider is not installed; "
        "install it with: pip install 'pytest-siren[groq]'"
    )


def chained(*errors: Exception) -> ModelAPIError:
    """A model's error with its causes, the innermost last."""
    error = ModelAPIError("m", "Connection error.")
    link: BaseException = error
    for cause in errors:
        link.__cause__ = cause
        link = cause
    return error


def test_what_can_never_be_sent_is_the_set_ups_fault() -> None:
    header = ValueError("Forbidden control character detected in headers. ...")
    ascii_only = UnicodeEncodeError("ascii", "\u201c", 0, 1, "ordinal not in range(128)")
    for error in (header, ascii_only):
        verdict = classify(details_of(chained(error)))
        assert (verdict.kind, verdict.unavailable) == (ErrorKind.UNAVAILABLE, UnavailableReason.KEY)
    # A prompt's own character is the run's error.
    prompt = UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")
    assert classify(details_of(chained(prompt))).kind is ErrorKind.REJECTED
    assert details_of(chained(ssl.SSLCertVerificationError("self-signed"))).certificate


def test_weights_that_cannot_be_loaded_make_the_model_unavailable(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    weights = tmp_path / "bad.gguf"
    weights.write_bytes(b"no weights" * 100)
    with pytest.raises(ModelUnavailableError) as raised:
        LlamaServer("smollm2-135m", weights)
    assert str(weights) in str(raised.value)
    assert "siren models pull smollm2-135m" in str(raised.value)
