"""The providers of models that pydantic-ai knows by name."""

from __future__ import annotations

from functools import cache

from pydantic_ai.models import known_model_names


@cache
def provider_names() -> frozenset[str]:
    """Return what stands before the colon in pydantic-ai's own list of models."""
    return frozenset(known.partition(":")[0] for known in known_model_names() if ":" in known)


def is_provider(name: str) -> bool:
    """Tell whether pydantic-ai knows the provider, be its package installed or not."""
    if name in provider_names():
        return True
    from pydantic_ai.providers import infer_provider_class

    try:
        infer_provider_class(name)
    except ImportError:
        return True
    except ValueError:
        return False
    return True
