"""The environment variables from which pydantic-ai takes keys and addresses of providers."""

from __future__ import annotations

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
