from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pytest_siren.attacks.template_sandbox import LONGEST, TemplateSizeError, size_of
from pytest_siren.attacks.template_string import (
    IMPORTANT_INSTRUCTIONS,
    AttackTemplateError,
    TemplateStringAttack,
    TemplateStringConfig,
    component,
)
from pytest_siren.models.control import ControlSource
from tests.unit.attack_sample import VECTORS, target
from tests.unit.inline_sample import HOSTILE

MODEL = ControlSource("ground-truth")
SIZE = "the template made more than 200,000 characters"
STEPS = "the template took more than 5,000,000 steps"


def attack(template: str | None = None, **config: Any) -> TemplateStringAttack:
    given = config if template is None else {"attack_template": template, **config}
    built = component.build(component.config.model_validate(given), Path())
    assert isinstance(built, TemplateStringAttack)
    return built


def render(template: str, goal: str = "the goal", **config: Any) -> str:
    (text,) = set(attack(template, **config).contents(target(goal)).values())
    return text


def refusal(**config: Any) -> tuple[tuple[str | int, ...], str]:
    with pytest.raises(ValidationError) as caught:
        TemplateStringConfig.model_validate(config)
    (error,) = caught.value.errors()
    return error["loc"], error["msg"]


def test_the_default_is_agentdojos_important_instructions_to_the_letter() -> None:
    spec = find_spec("agentdojo")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("needs the extra agentdojo")
    folder = Path(spec.submodule_search_locations[0])
    source = (folder / "attacks" / "important_instructions_attacks.py").read_text()
    # Read instead of imported: importing it takes five seconds and five SDKs.
    assigned = next(
        node.value
        for class_ in ast.walk(ast.parse(source))
        if isinstance(class_, ast.ClassDef) and class_.name == "ImportantInstructionsAttack"
        for node in class_.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_JB_STRING"
    )
    values = {"user": "Emma Johnson", "model": MODEL.spoken_name, "goal": "Do it {now}"}
    expected = ast.literal_eval(assigned).format(**values)
    assert attack().contents(target("Do it {now}")) == dict.fromkeys(VECTORS, expected)
    assert expected.endswith("</INFORMATION>\n\n\n")


def test_fields_user_and_model() -> None:
    template = "{{ user }}|{{ model }}|{{ goal }}|{{ x }}|{{ template_fields.x }}\n"
    assert render(template, template_fields={"x": [1]}) == (
        f"Emma Johnson|{MODEL.spoken_name}|the goal|[1]|[1]\n"
    )
    fields = {"x": "y", "user": "Ann", "model": "GPT-4"}
    assert render(template, template_fields=fields) == "Ann|GPT-4|the goal|y|y\n"


def test_jinja_works() -> None:
    template = (
        "{% for n in range(3) %}{{ n }}{% if not loop.last %},{% endif %}{% endfor %}"
        "{% set big = goal | upper %} {{ big }} {{ 'a' * 3 }} {{ 2 ** 3 }} {{ 7 % 4 }}"
    )
    assert render(template) == "0,1,2 THE GOAL aaa 8 3"
    formats = "{{ '%05d|%s' % (7, goal) }} {{ '{:,}'.format(1500000) }} {{ goal | center(10) }}"
    assert render(formats) == "00007|the goal 1,500,000  the goal "
    assert render("{{ 1500000 | tojson }} {{ 1500000 | filesizeformat }}") == "1500000 1.5 MB"
    assert render("{{ [1, 2] | map('string') | join(goal[0]) }}") == "1t2"


def test_values_are_never_templates_and_never_escaped() -> None:
    goal = f"{{{{7*7}}}} {{% raw %}} {HOSTILE} & <b>"
    assert render("{{ goal }}", goal) == goal
    assert render("{{ goal }}{{ x }}", "g", template_fields={"x": "{{ 1 // 0 }}"}) == (
        "g{{ 1 // 0 }}"
    )
    text = attack("{{ user }}").contents(target(user_name="{{ goal }}"))
    assert set(text.values()) == {"{{ goal }}"}


def test_the_vectors_that_the_task_reads_are_attacked_or_the_chosen_ones() -> None:
    assert attack("x", vectors=["page", "far"]).contents(target()) == {"page": "x", "far": "x"}
    assert attack("x", vectors=["page"]).contents(target()) == {"page": "x"}
    assert attack("x").contents(target()) == {"mail": "x", "page": "x"}


def test_unknown_vectors_and_none_at_all_are_errors_of_the_run() -> None:
    with pytest.raises(
        ValueError,
        match=r"^attack template_string: no such injection vector: pgae; there are: mail, page",
    ):
        attack("x", vectors=["pgae", "mail"]).contents(target())
    with pytest.raises(
        ValueError, match="the task 'b' has no injection vectors, so there is nothing"
    ):
        attack("x").contents(target(vectors={}))


def test_the_name_of_recordings() -> None:
    assert attack().recording(MODEL) == "important_instructions"
    assert attack("x").recording(MODEL) is None
    assert attack(IMPORTANT_INSTRUCTIONS, template_fields={"user": "Ann"}).recording(MODEL) is None
    assert attack(vectors=["mail"]).recording(MODEL) is None
    assert attack("x", template_short_name="mine").recording(MODEL) == "mine"
    assert attack().rewinds is False


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a\n{{ goal", "line 2: unexpected end of template, expected 'end of print statement'."),
        ("{% if goal %}", "line 1: Unexpected end of template."),
        ("{{ goal | nofilter }}", "line 1: No filter named 'nofilter'."),
        (
            "a\nb {{ gaol }}",
            "line 2: 'gaol' is undefined (did you mean 'goal'?); known: goal, user",
        ),
        ("{{ x }}", "line 1: 'x' is undefined; known: goal, user, model, task, other_model, "),
        (
            "{% if false %}\n{{ template_fields.y }}{% endif %}",
            "line 2: 'template_fields.y' is undefined; known: none",
        ),
        ("{{ template_fields['y'] }}", "line 1: 'template_fields.y' is undefined"),
        ("{% include 'x' %}", "cannot include, import or extend other templates"),
        ("{% extends goal %}", "cannot include, import or extend other templates"),
        ("{{ goal | random }}", "line 1: No filter named 'random'."),
        ("{{ lipsum() }}", "line 1: 'lipsum' is undefined"),
        ("{{ " + "(" * 5000 + "}}", "nested too deeply"),
    ],
)
def test_bad_templates_are_errors_of_the_eval_file(template: str, message: str) -> None:
    place, text = refusal(attack_template=template)
    assert place == ("attack_template",)
    assert text.startswith(message)


def test_nearest_field_is_suggested() -> None:
    _, text = refusal(
        attack_template="{{ template_fields.toen }} ", template_fields={"tone": "polite"}
    )
    assert "did you mean 'template_fields.tone'?" in text


@pytest.mark.parametrize(
    ("config", "place", "message"),
    [
        ({"attack_template": ""}, ("attack_template",), "at least 1 character"),
        ({"attack_template": 3}, ("attack_template",), "valid string"),
        ({"template_short_name": ""}, ("template_short_name",), "at least 1 character"),
        (
            {"template_fields": {"goal": "x"}},
            ("template_fields",),
            "must not have 'goal': the goal comes from the malicious task",
        ),
        (
            {"template_fields": {"template_fields": 1}},
            ("template_fields",),
            "must not have 'template_fields'",
        ),
        ({"template_fields": ["x"]}, ("template_fields",), "valid dictionary"),
        ({"vectors": []}, ("vectors",), "at least 1 item"),
        ({"vectors": "mail"}, ("vectors",), "valid list"),
        ({"templat": "x"}, ("templat",), "not permitted"),
    ],
)
def test_what_is_wrong_is_reported_at_its_key(
    config: dict[str, Any], place: tuple[str, ...], message: str
) -> None:
    found, text = refusal(**config)
    assert found == place
    assert message in text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a\n{{ goal.missing }}", "line 2: 'str object' has no attribute 'missing'"),
        ("{{ goal.__class__ }}", "access to attribute '__class__' of 'str' object is unsafe"),
        ("{{ template_fields.update({'a': 1}) }}", "access to attribute 'update' of 'dict' object"),
        ("{{ 1 // 0 }}", "line 1: "),
        ("{{ goal + 1 }}", "line 1: can only concatenate str"),
        ("{{ 'a' * 200001 }}", SIZE),
        ("{{ 300000 * [goal] }}", SIZE),
        ("{{ 10 ** 10 ** 100000 }}", SIZE),
        ("{{ '%999999999d' % 1 }}", SIZE),
        ("{{ '%(a).*f' | format(a=1) }}", SIZE),
        ("{{ '{:>999999999}'.format(goal) }}", SIZE),
        (
            "{{ '{:>{}}'.format(goal, 999999999) }}",
            SIZE,
        ),
        ("{{ goal.ljust(999999999) }}", SIZE),
        ("{{ goal | center(999999999) }}", SIZE),
        ("{{ goal | indent(width=999999999) }}", SIZE),
        ("{% for n in range(1000000) %}x{% endfor %}", "exceed 100000 numbers in all"),
        (
            "{% for a in range(400) %}{% for b in range(400) %}{% endfor %}{% endfor %}",
            "exceed 100000 numbers in all",
        ),
        (
            "{% for n in range(100) %}{{ 'a' * 5000 }}{% endfor %}",
            SIZE,
        ),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "maximum recursion depth exceeded"),
    ],
)
def test_templates_that_fail_are_errors_of_the_run(template: str, message: str) -> None:
    built = attack(template)
    with pytest.raises(AttackTemplateError) as caught:
        built.contents(target())
    assert message in str(caught.value)


LONG = "{% set s = 'a' * 200000 %}"
TREE = "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(40) %}{% set ns.x = [ns.x, ns.x] %}"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (LONG + "{% for a in s %}{% for b in s %}{% endfor %}{% endfor %}", STEPS),
        ("{% for a in s recursive %}{{ loop(s) }}{% endfor %}", STEPS),
        ("{% macro m(n) %}{{ m(n - 1) ~ m(n - 1) if n }}{% endmacro %}{{ m(60) }}", STEPS),
        (
            "{% macro m() %}{% for a in s %}{{ s[:99] }}{% endfor %}{% endmacro %}{{ m() }}",
            STEPS,
        ),
        ("{% set b %}{% for a in s %}" + "x" * 9999 + "{% endfor %}{% endset %}", STEPS),
        (LONG + "{% for a in s %}{% set x = s | upper %}{% endfor %}", STEPS),
        (LONG + "{% for a in s %}{% set x = s[1:] %}{% endfor %}", STEPS),
        (LONG + "{% for a in s %}{% set x = s == s[::1] %}{% endfor %}", STEPS),
        (LONG + "{% for a in s %}{% set x = 'ab' in s %}{% endfor %}", STEPS),
        (LONG + "{% for a in s %}{% set x = 'ab' is in s %}{% endfor %}", STEPS),
        (LONG + "{% for a in s %}{% set x = s.upper() %}{% endfor %}", STEPS),
        (LONG + "{% for a in s %}{% set x = '' + s %}{% endfor %}", STEPS),
        ("{{ s | map('center', 20000) | list | length }}", STEPS),
        (
            "{% set ns = namespace(x='a') %}{% for i in range(31) %}{% set ns.x = ns.x ~ ns.x %}"
            "{% endfor %}{{ ns.x | length }}",
            SIZE,
        ),
        (TREE + "{% endfor %}{{ ns.x }}", SIZE),
        (TREE + "{% endfor %}{{ ns.x | tojson }}", SIZE),
        (TREE + "{% endfor %}{{ 'x' ~ ns.x }}", SIZE),
        (TREE + "{% endfor %}{{ '%s' % ns.x }}", SIZE),
        (TREE + "{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}", SIZE),
        ("{{ '%2147483647s' | format(1) }}", SIZE),
        ("{{ ('%99999s' * 200) | format(*range(200)) | length }}", SIZE),
        ("{{ ('%(a)s' * 20000) | format(a='b' * 20000) | length }}", SIZE),
        ("{{ ('%(a)s' * 20000) % {'a': 'b' * 20000} }}", SIZE),
        ("{{ ('{0}' * 20000).format('b' * 20000) | length }}", SIZE),
        ("{{ ('{0:>99999}' * 2000).format('b') | length }}", SIZE),
        ("{{ 'a' * 10 ** 9 }}", SIZE),
        ("{{ 'a'.encode() * 10 ** 9 }}", SIZE),
        (LONG + "{{ s | replace('a', s) | length }}", SIZE),
        (LONG + "{{ s.replace('a', s) | length }}", SIZE),
        (LONG + "{{ s | list | join(s) | length }}", SIZE),
        (LONG + "{{ s.join(s) | length }}", SIZE),
        (LONG + "{{ s.translate({97: s}) | length }}", SIZE),
        ("{{ ('\\t' * 200000).expandtabs(200000) | length }}", SIZE),
        ("{{ ('\\n' * 200000) | indent(199999) | length }}", SIZE),
        ("{{ ('a ' * 99999) | wordwrap(1, wrapstring='b' * 9999) | length }}", SIZE),
        ("{{ ([[1] * 400] * 400) | sum(start=[]) | length }}", SIZE),
        ("{{ (goal | list) | tojson(indent=9999) }}", SIZE),
        ("{{ (7 ** 60000) * (7 ** 60000) }}", SIZE),
        ("{{ range(99999) | join(s) | length }}", SIZE),
        ("{{ range(10 ** 9) | list | length }}", "exceed 100000 numbers in all"),
        ("{% for a in 'ab' recursive %}{{ loop('ab') }}{% endfor %}", "recursion depth exceeded"),
    ],
)
def test_rendering_is_bounded_in_steps_and_size(template: str, message: str) -> None:
    built = attack(template, template_fields={"s": "a" * LONGEST})
    with pytest.raises(AttackTemplateError) as caught:
        built.contents(target())
    assert message in str(caught.value)


def test_what_the_bounds_look_at_works_as_ever() -> None:
    template = (
        "{{ goal ~ 1 ~ none }}|{{ goal[4:] }}|{{ goal == 'the goal' }}|{{ 'goal' in goal }}|"
        "{% for a, b in {'x': 1} | items recursive %}{{ loop.length }}{{ a }}{{ b }}{% endfor %}|"
        "{{ [3, 1] | sort }}{{ ['a'] | map('upper') | first }}{{ [1, 2] | sum }}|"
        "{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m('y') }}|"
        "{% macro n(x) %}<{{ x }}{{ caller() }}>{% endmacro %}{% call n('z') %}!{% endcall %}|"
        "{% filter upper %}up{% endfilter %}{{ 'a-b'.replace('-', '+') }}{{ ','.join('ab') }}|"
        "{% set c = cycler('p', 'q') %}{{ c.next() }}{{ c.next() }}|"
        "{% for x in [1, 2, 3] if x is odd %}{{ x }}{% else %}none{% endfor %}"
    )
    assert render(template) == ("the goal1None|goal|True|True|1x1|[1, 3]A3|<y>|<z!>|UPa+ba,b|pq|13")


def test_the_size_of_a_value_counts_what_is_written_twice() -> None:
    assert size_of("abc") == 4
    shared = ["x" * 1000] * 100
    assert size_of(shared) > 100_000
    with pytest.raises(TemplateSizeError):
        size_of([shared, shared])


def test_a_long_goal_is_bounded_too() -> None:
    assert len(render("{{ goal }}", "g" * LONGEST)) == LONGEST
    with pytest.raises(AttackTemplateError, match=SIZE):
        render("{{ goal }}!", "g" * LONGEST)


def test_ranges_are_counted_per_rendering() -> None:
    built = attack("{% for n in range(60000) %}{% endfor %}x")
    for _ in range(3):
        assert set(built.contents(target()).values()) == {"x"}
