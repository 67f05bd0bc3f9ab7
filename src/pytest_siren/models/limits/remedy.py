"""What a user is told when no request on a model can succeed."""

from __future__ import annotations

from pytest_siren.models.limits.facts import Facts
from pytest_siren.models.limits.verdict import Trouble

_KEYS = {
    "anthropic": "ANTHROPIC_API_KEY",
    "azure": "AZURE_OPENAI_API_KEY",
    "cerebras": "CEREBRAS_API_KEY",
    "cohere": "CO_API_KEY",
    "deepseek": "DEEPSEEK_API_KEY",
    "fireworks": "FIREWORKS_API_KEY",
    "github": "GITHUB_API_KEY",
    "google": "GOOGLE_API_KEY",
    "grok": "GROK_API_KEY",
    "groq": "GROQ_API_KEY",
    "huggingface": "HF_TOKEN",
    "mistral": "MISTRAL_API_KEY",
    "moonshotai": "MOONSHOTAI_API_KEY",
    "openai": "OPENAI_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
    "together": "TOGETHER_API_KEY",
    "xai": "XAI_API_KEY",
}


_ADDRESSES = {"azure": "AZURE_OPENAI_ENDPOINT", "google": "GOOGLE_GEMINI_BASE_URL"}


def address_variable(name: str) -> str:
    """Return the environment variable that holds the address of a model's provider."""
    provider = name.partition(":")[0]
    stem = provider.partition("-")[0]
    return _ADDRESSES.get(provider) or _ADDRESSES.get(stem) or f"{stem.upper()}_BASE_URL"


def unavailable(name: str, facts: Facts, trouble: Trouble) -> str:
    """Return one line: which model, what its provider says, what to do."""
    status = f" ({facts.status})" if facts.status else ""
    said = facts.message.rstrip(".") or "no reason given"
    return f"model {name!r}: {said}{status}; {_what_to_do(name, trouble)}"


def too_long(name: str, wait: float, longest: float) -> str:
    """Return one line for a provider that is asked again in hours only."""
    return (
        f"model {name!r}: its provider asks to wait {wait:,.0f} s before the next request, "
        f"longer than {longest:,.0f} s; run pytest --lf when the limit has been reset"
    )


def _what_to_do(name: str, trouble: Trouble) -> str:
    provider = name.partition(":")[0].removeprefix("gateway/")
    match trouble:
        case Trouble.KEY:
            key = _KEYS.get(provider) or _KEYS.get(provider.partition("-")[0])
            return f"check {key or f'the API key of {provider}'}"
        case Trouble.QUOTA:
            return f"check the plan and the balance of the account at {provider}"
        case Trouble.MODEL:
            return "check the model's name, and that the account may use it"
        case Trouble.ADDRESS:
            return "check the provider's base URL, and that its server runs"
        case Trouble.PROXY:
            return "check HTTPS_PROXY and HTTP_PROXY"
