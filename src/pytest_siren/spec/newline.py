"""The newline at the end of prompt-siren's attack templates, which Jinja takes away there."""

from __future__ import annotations

from pytest_siren.yamlpos.nodes import Node, with_value

_CONFIG = ("config",)
_KEY = "keep_trailing_newline"


def as_jinja_has_it(section: Node) -> Node:
    """Return the ``section`` of an attack with the last newline of its template left out.

    It stays as it is where the section itself says what becomes of the newline, and where there is
    none at the end.
    """
    kind, config = section.child("type"), section.at(_CONFIG)
    if kind is None or kind.value != "template_string" or config is None:
        return section
    if not isinstance(config.value, dict) or _KEY in config.value:
        return section
    template = config.child("attack_template")
    if template is not None and not str(template.value).endswith("\n"):
        return section
    return with_value(section, (*_CONFIG, _KEY), Node(False, config.place))
