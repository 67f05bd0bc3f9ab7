"""``--set``: setting, adding, deleting and sweeping."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_siren.spec.overrides import parse_overrides
from tests.unit.spec_sample import MINIMAL, Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def values(setting: str) -> list[Any]:
    [override], problems = parse_overrides([setting], Path("f.yaml"), {})
    assert problems == []
    return [choice.node.plain() for choice in override.choices]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("a=1", [1]),
        ("a=", [None]),
        ("a=null", [None]),
        ("a=b=c", ["b=c"]),
        ("a=1,x,true", [1, "x", True]),
        ("a= 1 , 2 ", [1, 2]),
        ("a=[1,2]", [[1, 2]]),
        ("a=[1,2],[3]", [[1, 2], [3]]),
        ("a={x: 1, y: [2, 3]}", [{"x": 1, "y": [2, 3]}]),
        ("a='x,y'", ["x,y"]),
        ("a='x,y','it''s, z'", ["x,y", "it's, z"]),
        ('a="x,\\",y",z', ['x,",y', "z"]),
        ("a=don't,stop", ["don't", "stop"]),
        ("a=[\"],\", ']'],2", [["],", "]"], 2]),
        ("a=a,b c", ["a", "b c"]),
        ("a=openai:gpt-5,local:x", ["openai:gpt-5", "local:x"]),
        ("a=line\nbreak", ["line break"]),
    ],
)
def test_values_are_yaml_and_commas_sweep(setting: str, expected: list[Any]) -> None:
    assert values(setting) == expected


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("runs", "write KEY=VALUE, +KEY=VALUE or ~KEY"),
        ("=1", "write KEY=VALUE, +KEY=VALUE or ~KEY"),
        ("a..b=1", "write KEY=VALUE, +KEY=VALUE or ~KEY"),
        ("a b=1", "write KEY=VALUE, +KEY=VALUE or ~KEY"),
        ("++a=1", "write KEY=VALUE, +KEY=VALUE or ~KEY"),
        ("~a=1", "write KEY=VALUE, +KEY=VALUE or ~KEY"),
        ("+a", "write KEY=VALUE, +KEY=VALUE or ~KEY"),
        ("a=1,1", "the values of a sweep must differ and not be empty"),
        ("a=1,", "the values of a sweep must differ and not be empty"),
        ("a=[1,2", "invalid YAML: it ends while parsing a flow sequence"),
        ("a={x: 1, x: 2}", "duplicate key 'x' (first on line 1)"),
        ("a=!!set {x}", "the YAML tag '!!set' is not allowed: files hold plain data"),
        ("a=*x", "unknown alias '*x': no anchor '&x' precedes it"),
        ("include=x.yaml", "files are included by eval files only"),
    ],
)
def test_settings_that_make_no_sense_are_problems(setting: str, message: str) -> None:
    overrides, problems = parse_overrides([setting], Path("f.yaml"), {})
    assert overrides == ()
    assert [problem.message for problem in problems] == [f"--set {setting}: {message}"]


def test_the_last_setting_of_a_key_counts() -> None:
    [override], _ = parse_overrides(["a=1", "+a=2"], Path("f.yaml"), {})
    assert [choice.text for choice in override.choices] == ["2"]


@pytest.mark.parametrize(
    ("setting", "raw"),
    [
        ("dataset.config.version=v2", {"limit": 5, "version": "v2"}),
        ("dataset.config.limit=6", {"limit": 6}),
        ("+dataset.config.limit=6", {"limit": 6}),
        ("dataset.config={version: v2}", {"version": "v2"}),
        ("~dataset.config.limit", {}),
        ("dataset.config.names=[a]", {"limit": 5, "names": ["a"]}),
    ],
)
def test_keys_are_set_added_and_deleted(folder: Folder, setting: str, raw: dict[str, Any]) -> None:
    text = "dataset: {type: toy, config: {limit: 5}}\nagent: {config: {model: m}}\n"
    [job] = folder.load(text, sets=(setting,))
    assert job.dataset.raw == raw


def test_sections_that_the_file_leaves_out_are_made(folder: Folder) -> None:
    [job] = folder.load(
        "dataset: {type: toy}\nusage_limits: null\n",
        sets=(
            "execution.concurrency=3",
            "usage_limits.total_tokens_limit=9",
            "agent.config.model=m",
        ),
    )
    assert (job.concurrency, job.model) == (3, "m")
    assert job.usage_limits == {"request_limit": 50, "total_tokens_limit": 9}


def test_keys_of_a_mapping_that_takes_any_key_are_known(folder: Folder) -> None:
    [job] = folder.load(MINIMAL, sets=("agent.config.settings.temperature=0.5",))
    assert job.agent.raw == {"model": "m", "settings": {"temperature": 0.5}}


def test_numbers_lead_into_lists(folder: Folder) -> None:
    text = (
        "dataset: {type: toy, config: {tasks: [{id: a, prompt: x}, {id: b, prompt: y}]}}\n"
        "agent: {config: {model: m}}\n"
    )
    [job] = folder.load(text, sets=("dataset.config.tasks.1.prompt=z",))
    assert [task["prompt"] for task in job.dataset.raw["tasks"]] == ["x", "z"]
    [job] = folder.load(text, sets=("~dataset.config.tasks.0",))
    assert [task["id"] for task in job.dataset.raw["tasks"]] == ["b"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("rnus=1", "unknown key 'rnus' (did you mean 'runs'?); +KEY=VALUE adds a key"),
        (
            "execution.concurency=1",
            "unknown key 'concurency' in execution (did you mean 'concurrency'?); "
            "+KEY=VALUE adds a key",
        ),
        (
            "dataset.config.verson=v2",
            "unknown key 'verson' in dataset.config (did you mean 'version'?); "
            "+KEY=VALUE adds a key",
        ),
        ("agent.config.x=v2", "unknown key 'x' in agent.config; +KEY=VALUE adds a key"),
        ("dataset.foo.bar=1", "unknown key 'foo' in dataset; +KEY=VALUE adds a key"),
        (
            "attack.config.txt=1",
            "unknown key 'txt' in attack.config (did you mean 'text'?); +KEY=VALUE adds a key",
        ),
        ("+attack.config.txt=1", "unknown key 'txt' in attack.config (did you mean 'text'?)"),
        ("+rnus=1", "unknown key 'rnus' (did you mean 'runs'?)"),
        ("+runs.x=1", "runs is neither a mapping nor has it such an item"),
        ("+tags.3=x", "tags is neither a mapping nor has it such an item"),
        ("~dataset.config.limit", "there is no 'limit' to delete in dataset.config"),
        ("~attack.config.text", "there is no 'text' to delete in attack.config"),
        ("runs=x", "wrong type for runs: 'x' is not an integer"),
        (
            "dataset.config.limit=x",
            "wrong type for dataset.config.limit: 'x' is not an integer",
        ),
        ("attack.config.turns=x", "wrong type for attack.config.turns: 'x' is not an integer"),
    ],
)
def test_an_override_that_does_not_fit_is_a_problem(
    folder: Folder, setting: str, message: str
) -> None:
    text = f"{MINIMAL}runs: 1\ntags: [a]\nattack: {{type: echo}}\n"
    assert folder.problems(text, sets=(setting,)) == [
        f"evals/eval_x.yaml: --set {setting}: {message}"
    ]


def test_overrides_of_an_unknown_component_do_not_add_to_the_noise(folder: Folder) -> None:
    text = "dataset: {type: tiy}\nagent: {config: {model: m}}\n"
    assert len(folder.problems(text, sets=("dataset.config.anything=1",))) == 1


def test_sweeps_multiply_and_name_their_cells(folder: Folder) -> None:
    jobs = folder.load(
        MINIMAL, sets=("dataset.config.version=v1,v2", "runs=2", "dataset.config.limit=1, 2")
    )
    assert [job.cell for job in jobs] == [
        {"dataset.config.version": "v1", "dataset.config.limit": "1"},
        {"dataset.config.version": "v1", "dataset.config.limit": "2"},
        {"dataset.config.version": "v2", "dataset.config.limit": "1"},
        {"dataset.config.version": "v2", "dataset.config.limit": "2"},
    ]
    assert [job.dataset.raw["limit"] for job in jobs] == [1, 2, 1, 2]
    assert {job.runs for job in jobs} == {2}
    assert [job.snapshot["cell"] for job in jobs] == [job.cell for job in jobs]


def test_a_sweep_over_models_is_a_sweep(folder: Folder) -> None:
    jobs = folder.load(MINIMAL, sets=("agent.config.model=a,b",))
    assert [(job.model, dict(job.cell)) for job in jobs] == [
        ("a", {"agent.config.model": "a"}),
        ("b", {"agent.config.model": "b"}),
    ]


def test_attack_overrides_apply_to_every_selected_attack_and_to_no_benign_job(
    folder: Folder,
) -> None:
    folder.write("attack/beside.yaml", "type: echo\nconfig: {turns: 9}\n")
    text = f"{MINIMAL}attack: {{name: own, type: echo, config: {{text: t}}}}\n"
    jobs = folder.load(
        text, attacks=("own", "beside", "echo"), benign=True, sets=("attack.config.turns=1,2",)
    )
    assert [
        (job.attack.name, job.attack.raw, dict(job.cell)) if job.attack else (None, None, job.cell)
        for job in jobs
    ] == [
        (None, None, {}),
        ("own", {"text": "t", "turns": 1}, {"attack.config.turns": "1"}),
        ("own", {"text": "t", "turns": 2}, {"attack.config.turns": "2"}),
        ("beside", {"turns": 1}, {"attack.config.turns": "1"}),
        ("beside", {"turns": 2}, {"attack.config.turns": "2"}),
        ("echo", {"turns": 1}, {"attack.config.turns": "1"}),
        ("echo", {"turns": 2}, {"attack.config.turns": "2"}),
    ]


def test_an_override_may_supply_what_the_file_lacks(folder: Folder) -> None:
    text = f"{MINIMAL}attack: {{type: needs_path}}\n"
    [job] = folder.load(text, sets=("attack.config.path=x.json",))
    assert job.attack is not None
    assert job.attack.raw == {"path": "x.json"}


def test_an_attack_override_without_an_attack_is_a_problem(folder: Folder) -> None:
    assert folder.problems(MINIMAL, sets=("attack.config.turns=1",)) == [
        "evals/eval_x.yaml: --set attack.config.turns=1: no attack is selected"
    ]


@pytest.mark.parametrize(
    ("selection", "setting", "message"),
    [
        (
            {"models": ("a",)},
            "agent.config.model=b",
            "--model gives agent.config.model too; give it once",
        ),
        ({"agents": ("plain",)}, "agent.type=x", "--agent gives agent.type too; give it once"),
        ({"runs": 2}, "runs=3", "--runs gives runs too; give it once"),
        (
            {"runs": 2},
            "execution.n_runs_per_task=3",
            "--runs gives execution.n_runs_per_task too; give it once",
        ),
        ({"task_ids": ("a",)}, "task_ids=[b]", "--task-ids gives task_ids too; give it once"),
        (
            {"concurrency": 1},
            "execution.concurrency=2",
            "--concurrency gives execution.concurrency too; give it once",
        ),
    ],
)
def test_what_an_option_gives_cannot_be_set_too(
    folder: Folder, selection: dict[str, Any], setting: str, message: str
) -> None:
    problems = folder.problems(MINIMAL, sets=(setting,), **selection)
    assert f"evals/eval_x.yaml: --set {setting}: {message}" in problems
