"""What a user reads when no request on a model can succeed."""

from __future__ import annotations

import os
from urllib.request import getproxies

from pytest_siren.models.provider_settings import address_variable, key_variables
from pytest_siren.models.ratelimit.error_class import Trouble
from pytest_siren.models.ratelimit.error_details import Facts


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
            keys = key_variables(name)
            key = next((one for one in keys if one in os.environ), keys[0] if keys else None)
            return f"check {key or f'the API key of {provider}'}"
        case Trouble.QUOTA:
            return f"check the plan and the balance of the account at {provider}"
        case Trouble.MODEL:
            return "check the model's name, and that the account may use it"
        case Trouble.ADDRESS:
            return _reach(name)
        case Trouble.CERTIFICATE:
            return (
                "check the address; the certificate of an authority of your own belongs into the "
                "file that SSL_CERT_FILE names"
            )
        case Trouble.PROXY:
            return "check HTTPS_PROXY and HTTP_PROXY"


def _reach(name: str) -> str:
    variable = address_variable(name)
    where = variable if os.environ.get(variable) else "the network"
    proxy = ", or HTTPS_PROXY and HTTP_PROXY" if getproxies().keys() - {"no"} else ""
    return f"check {where}{proxy}, and that the provider's server runs"
