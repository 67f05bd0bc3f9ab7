"""Data on its way into a page: as JSON that no HTML or script parser can misread."""

from __future__ import annotations

import json
import re
from typing import Any

_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def script_json(value: Any) -> str:
    r"""Return ``value`` as JSON in ASCII, fit to stand inside a ``<script>`` element.

    ``<``, ``>``, ``&``, the line separators U+2028 and U+2029 and all else beyond ASCII are
    written as ``\uXXXX``. Raises ``ValueError`` for numbers that JSON does not have.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for char, escaped in _UNSAFE.items():
        text = text.replace(char, escaped)
    return text


def visible(text: object) -> str:
    r"""Return ``text`` with controls, overrides of direction and hidden tags as ``\uXXXX``.

    Tabs and newlines stay.
    """
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", str(text))
