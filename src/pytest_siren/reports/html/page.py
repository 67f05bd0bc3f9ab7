"""The page: template, style and script in one file that sends no requests."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from typing import Any

import jinja2

from pytest_siren.reports.html.encode import script_json, visible
from pytest_siren.reports.html.numbers import FILTERS

_STATIC = "static"
_SCRIPTS = (
    *("dom.js", "runs.js", "theme.js", "rates.js", "heat.js", "scatter.js", "lists.js"),
    *("conversation.js", "divergence.js", "dialog.js", "table.js", "start.js"),
)


def render(content: dict[str, Any], data: dict[str, Any], nonce: str | None) -> str:
    """Return the page.

    ``content`` is what the template shows, ``data`` what the script reads. Files beside the page
    are loaded as scripts with ``nonce``; without it no other script may run, wherever it is.
    """
    style = _static("page.css")
    script = "".join(_static(name) for name in _SCRIPTS)
    script = f"(() => {{\n'use strict';\n{script}}})();\n"
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
        loader=jinja2.FunctionLoader(_static),
    )
    environment.filters |= FILTERS
    return environment.get_template("page.html").render(
        **content,
        policy=policy(script, style, nonce),
        style=style,
        script=script,
        data=script_json(data),
    )


def policy(script: str, style: str, nonce: str | None) -> str:
    """Return the page's Content-Security-Policy.

    Scripts are bound to what they are: by their hash, or by the nonce. A hash for each file beside
    the page would be stricter, but browsers check none of files opened from a disk. Trusted
    types let the script make no HTML at all, and no address but that of such a file.
    """
    beside = "" if nonce is None else f" 'nonce-{nonce}'"
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_digest(script)}'{beside}",
            f"style-src '{_digest(style)}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types siren",
        )
    )


def _digest(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def _static(name: str) -> str:
    return files(__package__).joinpath(_STATIC, name).read_text(encoding="utf-8")


def _finalize(value: Any) -> Any:
    """Escape characters that could hide or reorder text, in all output of the template."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return visible(value)
    return value
