"""What a user reads when no request on a model can succeed."""

from __future__ import annotations

import os
from urllib.request import getproxies

from pytest_siren.models.provider_settings import address_variable, key_variables
from pytest_siren.models.ratelimit.error_class import ErrorDetails, UnavailableReason


def unavailable(name: str, details: ErrorDetails, reason: UnavailableReason) -> str:
    """Return one line: which model, what its provider says, what to do."""
    status = f" ({details.status})" if details.status else ""
    said = details.message.rstrip(".") or "no reason given"
    return f"model {name!r}: {said}{status}; {_what_to_do(name, reason)}"


def too_long(name: str, wait: float, longest: float) -> str:
    """Return one line for a provider that is asked again in hours only."""
    return (
        f"model {name!r}: its provider asks to wait {wait:,.0f} s before the next request, "
        f"longer than {longest:,.0f} s; run pytest --lf when the limit has been reset"
    )


def _what_to_do(name: str, reason: UnavailableReason) -> str:
    provider = name.partition(":")[0].removeprefix("gateway/")
    match reason:
        case UnavailableReason.KEY:
            keys = key_variables(name)
            key = next((one for one in keys if one in os.environ), keys[0] if keys else None)
            return f"check {key or f'the API key of {provider}'}"
        case UnavailableReason.QUOTA:
            return f"check the plan and the balance of the account at {provider}"
        case UnavailableReason.MODEL:
            return "check the model's name, and that the account may use it"
        case UnavailableReason.ADDRESS:
            return _reach(name)
        case UnavailableReason.CERTIFICATE:
            return (
                "check the address; the certificate of an authority of your own belongs into the "
                "file that SSL_CERT_FILE names"
            )
        case UnavailableReason.PROXY:
            return "check HTTPS_PROXY and HTTP_PROXY"


def _reach(name: str) -> str:
    variable = address_variable(name)
    where = variable if os.environ.get(variable) else "the network"
    proxy = ", or HTTPS_PROXY and HTTP_PROXY" if getproxies().keys() - {"no"} else ""
    return f"check {where}{proxy}, and that the provider's server runs"
