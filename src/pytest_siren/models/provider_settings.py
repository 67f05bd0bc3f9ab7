"""Keys, addresses and proxies in the environment, checked before a request is sent with them."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from importlib.util import find_spec
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

_KEYS: dict[str, tuple[str, ...]] = {
    "alibaba": ("ALIBABA_API_KEY", "DASHSCOPE_API_KEY"),
    "anthropic": ("ANTHROPIC_API_KEY",),
    "azure": ("AZURE_OPENAI_API_KEY",),
    "bedrock": (),
    "cerebras": ("CEREBRAS_API_KEY",),
    "cohere": ("CO_API_KEY",),
    "crusoe": ("CRUSOE_API_KEY",),
    "deepseek": ("DEEPSEEK_API_KEY",),
    "fireworks": ("FIREWORKS_API_KEY",),
    "gateway": ("PYDANTIC_AI_GATEWAY_API_KEY", "PAIG_API_KEY"),
    "github": ("GITHUB_API_KEY",),
    "google": ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
    "google-cloud": (),
    "grok": ("GROK_API_KEY",),
    "groq": ("GROQ_API_KEY",),
    "heroku": ("HEROKU_INFERENCE_KEY",),
    "huggingface": ("HF_TOKEN",),
    "meta": ("META_API_KEY",),
    "mistral": ("MISTRAL_API_KEY",),
    "moonshotai": ("MOONSHOTAI_API_KEY",),
    "nebius": ("NEBIUS_API_KEY",),
    "ollama": ("OLLAMA_API_KEY",),
    "openai": ("OPENAI_API_KEY",),
    "openai-chatgpt": (),
    "openai-codex": (),
    "openrouter": ("OPENROUTER_API_KEY",),
    "ovhcloud": ("OVHCLOUD_API_KEY",),
    "sambanova": ("SAMBANOVA_API_KEY",),
    "snowflake": ("SNOWFLAKE_TOKEN",),
    "system-one": ("SYSTEM_ONE_API_KEY",),
    "together": ("TOGETHER_API_KEY",),
    "typesafe": ("TYPESAFE_API_KEY",),
    "vercel": ("VERCEL_AI_GATEWAY_API_KEY", "VERCEL_OIDC_TOKEN"),
    "vllm": ("VLLM_API_KEY",),
    "xai": ("XAI_API_KEY",),
    "zai": ("ZAI_API_KEY",),
}
"""Providers to the variables that may hold their key, the first one first."""

NEEDS_NO_KEY = frozenset({"ollama", "vllm"})
"""Providers whose servers often ask for no key."""

_ADDRESSES = {
    "azure": "AZURE_OPENAI_ENDPOINT",
    "cohere": "CO_BASE_URL",
    "gateway": "PYDANTIC_AI_GATEWAY_BASE_URL",
    "google": "GOOGLE_GEMINI_BASE_URL",
    "heroku": "HEROKU_INFERENCE_URL",
    "system-one": "SYSTEM_ONE_BASE_URL",
}


def provider_of(name: str) -> str:
    """Return the provider of a model; ``gateway`` for all models behind pydantic-ai's gateway."""
    provider = name.partition(":")[0]
    return "gateway" if provider.startswith("gateway/") else provider


def key_variables(name: str) -> tuple[str, ...]:
    """Return the environment variables that may hold the key of a model's provider."""
    provider = provider_of(name)
    if provider in _KEYS:
        return _KEYS[provider]
    return _KEYS.get(provider.partition("-")[0], ())


def address_variable(name: str) -> str:
    """Return the environment variable that holds the address of a model's provider."""
    provider = provider_of(name)
    stem = provider.partition("-")[0]
    return _ADDRESSES.get(provider) or _ADDRESSES.get(stem) or f"{stem.upper()}_BASE_URL"


_QUOTES = "\"'`"
_WEB = ("http", "https")
_SOCKS = ("socks4", "socks5", "socks5h")


def key_problem(name: str, environ: Mapping[str, str]) -> str | None:
    """Return what is wrong with the key of the model ``name``, without the key; ``None`` if well.

    A variable that is not set is no problem here: the provider may need none.
    """
    given = [
        (variable, environ[variable]) for variable in key_variables(name) if variable in environ
    ]
    if not given:
        return None
    filled = [(one, value) for one, value in given if value.strip()]
    if not filled:
        if provider_of(name) in NEEDS_NO_KEY:
            return None
        return f"{given[0][0]} is empty; set it to the API key"
    variable, value = filled[0]
    found = _odd_character(value) or _pasted(value)
    return f"{variable} {found}; set it to the API key alone" if found else None


def address_problem(variable: str, address: str) -> str | None:
    """Return what is wrong with ``address``, which ``variable`` sets; ``None`` if it is well."""
    if not address.strip():
        return f"{variable} is empty; unset it, or set it to the address of a server"
    if found := _odd_character(address) or _pasted(address):
        return f"{variable} {found}; set it to the address alone"
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError as error:
        return f"{variable} is not an address ({error}); correct it"
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        return (
            f"its base URL, at {parts.hostname}, holds a user name or a password, which would be "
            f"sent in place of the API key; remove them from {variable}"
        )
    if parts.scheme not in _WEB or "://" not in address:
        shown = "" if "@" in address else f" ({address!r})"
        return (
            f"{variable}{shown} does not begin with http:// or https://; "
            "set it to an address such as http://127.0.0.1:8000/v1"
        )
    if not parts.hostname:
        return f"{variable} ({address!r}) names no host; correct it"
    return None


def proxy_problem(address: str, proxies: Mapping[str, str]) -> str | None:
    """Return what is wrong with the proxy on the way to ``address``; ``None`` if it is well.

    ``proxies`` are those of ``urllib.request.getproxies``, by scheme.
    """
    to = urlsplit(address)
    scheme = to.scheme if to.scheme in proxies else "all"
    if scheme not in proxies or proxy_bypass(to.hostname or ""):
        return None
    proxy, variable = proxies[scheme], f"{scheme.upper()}_PROXY"
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError as error:
        return f"{variable} is not an address ({error}); correct or unset it"
    if _odd_character(proxy) or not parts.hostname:
        return f"{variable} is not an address; correct or unset it"
    if parts.scheme not in (*_WEB, *_SOCKS):
        known = ", ".join((*_WEB, *_SOCKS))
        return f"{variable} begins with {parts.scheme}://; proxies are {known}"
    if parts.scheme in _SOCKS and find_spec("socksio") is None:
        return f"{variable} is a SOCKS proxy; pip install socksio, or unset it"
    return None


def _odd_character(value: str) -> str | None:
    """Return which character of ``value`` cannot be sent in a header; ``None`` without one."""
    odd = next((c for c in value if not (c.isascii() and c.isprintable())), None)
    if odd is None:
        return "begins or ends with a space" if value != value.strip() else None
    if odd in "\r\n":
        return "holds a line break"
    what = unicodedata.name(odd, "a control character").lower()
    return f"holds the character U+{ord(odd):04X} ({what})"


def _pasted(value: str) -> str | None:
    return "is in quotes" if value[0] in _QUOTES or value[-1] in _QUOTES else None
