"""``siren results`` (P68-P84)."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from pytest_siren.cli.main import main
from pytest_siren.evaluation.scores import WORDS, Finish
from pytest_siren.evaluation.tasks import Scores
from pytest_siren.jobs.writing.store import JobStore
from pytest_siren.reports.grouping import FORMATS, GROUPS
from pytest_siren.reports.results import escaped
from tests.unit.jobs_sample import attempt, error_attempt, run, unknown_attempt
from tests.unit.test_jobs_table import a_job, their_job, their_line
from tests.unit.theirs_sample import ATTACK, TheirJob


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "jobs"


def fill(store: JobStore, scores: dict[str, Sequence[float | None]], attack: str | None) -> None:
    """Record runs with these scores; ``None`` is a run in error."""
    number = 0
    for task, values in scores.items():
        for index, score in enumerate(values):
            number += 1
            info = run(task, index, path=store.path, attack=attack)
            info = replace(info, identity=f"{number:016x}")
            run_id = f"{number:08x}"
            if score is None:
                store.record(error_attempt(run_id=run_id, info=info))
                continue
            of_attacker = Scores({"security": score}) if attack else None
            made = attempt(
                run_id=run_id, info=info, benign=Scores({"utility": score}), attack=of_attacker
            )
            store.record(made)


def results(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> list[dict[str, Any]]:
    assert main(["results", "--format", "json", *args]) == code
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows


def two_jobs(folder: Path) -> None:
    fill(a_job(folder, "benign", attack=None, identity="b" * 16), {"t0": [1.0], "t1": [0.0]}, None)
    fill(a_job(folder, "attack"), {"t0:m0": [1.0, 0.0], "t1:m0": [0.0, None]}, "template_string")


def test_a_row_tells_rates_with_their_intervals_and_errors_beside_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """P73, P76-P83."""
    two_jobs(folder)
    benign, attack = results(capsys)
    assert benign["attack_type"] == "benign"
    assert benign["benign_pass@1"] == 0.5
    assert benign["attack_pass@1"] is None
    assert benign["asr"] is None
    expected = {
        "dataset": "agentdojo-workspace",
        "dataset_suite": "workspace",
        "agent_type": "plain",
        "agent_name": "openai:gpt-5",
        "attack_type": "template_string",
        "attack_pass@1": 0.25,
        "asr": 0.25,
        "n_tasks": 2,
        "avg_n_samples": 1.5,
        "n_scored": 3,
        "n_errors": 1,
        "n_cancelled": 0,
        "input_tokens": 4 * 642,
        "n_unpriced": 4,
        "n_jobs": 1,
        "configuration": "1f2e3d4c5b6a7988",
    }
    assert {key: attack[key] for key in expected} == expected
    assert attack["asr_low"] is attack["asr_high"] is None
    assert attack["asr_lacking"] == "1 malicious task"
    assert (attack["asr_worst_low"], attack["asr_worst_high"]) == (0.25, 0.5)
    attack = results(capsys, "--cluster", "couple")[1]
    assert 0 <= attack["asr_low"] < 0.25 < attack["asr_high"] <= 1
    assert attack["asr_lacking"] is None
    assert attack["asr_standard_error"] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("errors", "asr"), [("exclude", 0.25), ("failure", 0.25), ("success", 0.5)]
)
def test_errors_count_as_what_is_asked_for(
    folder: Path, capsys: pytest.CaptureFixture[str], errors: str, asr: float
) -> None:
    two_jobs(folder)
    row = results(capsys, "--errors", errors)[1]
    assert row["asr"] == asr
    assert (row["n_errors"], row["errors"]) == (1, errors)
    assert main(["results", "--errors", errors]) == 0
    assert ("runs in error count as: " in capsys.readouterr().out) == (errors != "exclude")


def test_runs_of_one_configuration_pool_across_jobs_and_two_configurations_do_not(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """P84."""
    fill(a_job(folder, "one"), {"t0:m0": [1.0]}, "template_string")
    fill(a_job(folder, "two"), {"t0:m0": [0.0]}, "template_string")
    fill(a_job(folder, "three", identity="c" * 16), {"t0:m0": [0.0]}, "template_string")
    pooled, other = results(capsys, "--k", "2", code=2)
    assert (pooled["n_jobs"], pooled["n_tasks"], pooled["avg_n_samples"]) == (2, 1, 2.0)
    assert pooled["asr"] == 0.5
    assert pooled["attack_pass@2"] == 1.0
    assert pooled["attack_pass^2"] == 0.0
    assert (other["asr"], other["attack_pass@2"], other["attack_pass@2_n_short"]) == (0.0, None, 1)
    (model,) = results(capsys, "--group-by", "model")
    assert (model["n_configurations"], model["configuration"]) == (2, None)
    assert model["asr"] == 0.25
    assert main(["results"]) == 0
    header = capsys.readouterr().out.splitlines()[0]
    assert header.split()[-1] == "configuration"


def test_fewer_runs_than_k_is_no_answer(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """P74, P75."""
    two_jobs(folder)
    assert main(["results", "--k", "1", "--k", "3"]) == 2
    said = capsys.readouterr()
    assert "n/a (n<3)" in said.out
    assert "siren: attack_pass@3 is n/a in 1 of 1 rows: no task has 3 runs that count\n" in said.err
    row = results(capsys, "--k=2", code=2)[1]
    assert (row["attack_pass@2"], row["attack_pass@2_n_short"]) == (1.0, 1)


@pytest.mark.parametrize(
    ("by", "keys", "found"),
    [
        ("dataset", ["dataset"], [["agentdojo-workspace"]] * 2),
        ("dataset_suite", ["dataset_suite"], [["workspace"]] * 2),
        ("agent", ["agent_type"], [["plain"]] * 2),
        ("agent_name", ["agent_name"], [["openai:gpt-5"]] * 2),
        ("attack", ["attack_type"], [["benign"], ["template_string"]]),
        ("task", ["task"], [["t0"], ["t0:m0"], ["t1"], ["t1:m0"]]),
        ("benign_task", ["benign_task", "n_tasks"], [["t0", 1], ["t0", 1], ["t1", 1], ["t1", 1]]),
        ("malicious_task", ["malicious_task", "n_tasks"], [[None, 2], ["m0", 2]]),
        ("vector", ["vector"], [["injection_calendar"]] * 2),
        ("job", ["job"], [["jobs/attack"], ["jobs/benign"]]),
        ("model,attack", ["agent_name", "attack_type"], None),
    ],
)
def test_rows_are_grouped_as_asked(
    folder: Path, capsys: pytest.CaptureFixture[str], by: str, keys: list[str], found: Any
) -> None:
    """P71."""
    two_jobs(folder)
    rows = results(capsys, "--group-by", by)
    if found is not None:
        assert [[row[key] for key in keys] for row in rows] == found
    assert len({tuple(row[key] for key in (*keys, "attack_type")) for row in rows}) == len(rows)


def test_csv_has_the_columns_of_json_and_empty_cells(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """P70."""
    two_jobs(folder)
    assert main(["results", "--format", "CSV"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert rows[0]["attack_pass@1"] == ""
    as_json = results(capsys)
    assert [list(row) for row in rows] == [list(row) for row in as_json]
    assert float(rows[1]["asr"]) == as_json[1]["asr"]


def test_only_the_jobs_that_are_named_are_read(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two_jobs(folder)
    assert [row["attack_type"] for row in results(capsys, "ben*")] == ["benign"]
    assert [row["attack_type"] for row in results(capsys, "jobs/attack")] == ["template_string"]


def test_unreadable_jobs_are_named_beside_the_table(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """P68."""
    two_jobs(folder)
    (folder / "attack" / "config.yaml").unlink()
    with (folder / "benign" / "index.jsonl").open("a") as file:
        file.write("torn\x1b[2J\n")
    assert main(["results"]) == 0
    said = capsys.readouterr()
    assert "siren: cannot read jobs/attack/config.yaml: No such file or directory" in said.err
    assert "siren: jobs/benign/index.jsonl:3: " in said.err
    assert "template_string" not in said.out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "there is no folder jobs: name another one with --jobs-dir"),
        (["--jobs-dir=."], "there are no jobs in ."),
        (["nosuch"], "no job, sweep or glob 'nosuch' in jobs"),
    ],
)
def test_nothing_to_read_is_no_answer(
    folder: Path, capsys: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    assert main(["results", *args]) == 2
    assert f"siren: {message}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--group-by=nosuch"], "unknown group 'nosuch'; known are all, dataset, suite"),
        (["--k=0"], "'0' is not a number of runs, 1 or more"),
        (["--errors=drop"], "invalid choice: 'drop'"),
    ],
)
def test_wrong_options_are_refused(
    capsys: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["results", *args])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_jobs_of_prompt_siren_have_results(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        their_line("00000001"),
        their_line("00000002", exception_type="TimeoutError", benign_score=0.0, attack_score=0.0),
    ]
    their_job(folder / "theirs", lines, {"type": "template_string", "config": {}})
    (row,) = results(capsys)
    assert (row["dataset"], row["agent_name"]) == ("agentdojo-workspace", "openai:gpt-5")
    assert (row["attack_type"], row["asr"], row["n_errors"]) == ("template_string", 1.0, 1)


def test_rows_are_called_and_put_together_as_prompt_siren_does(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """P76, P79: types of datasets and attacks, suites in one row."""
    for suite, score in (("banking", 1.0), ("slack", 0.0)):
        dataset = {"type": "agentdojo", "config": {"suite_name": suite}}
        for attack, name in ((ATTACK, "please"), (DEFAULT, "default")):
            TheirJob(folder / f"{suite}-{name}", attack, dataset).record(
                "user_task_0:injection_task_0", attack=score
            )
    arguments = ["results", "--jobs-dir", str(folder), "--format", "json"]
    assert main([*arguments, "--names", "prompt-siren"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [
        (row["dataset"], row["attack_type"], row["attack_pass@1"], row["n_tasks"]) for row in rows
    ] == [
        ("agentdojo", "template_string_default", 0.5, 2),
        ("agentdojo", "template_string_please", 0.5, 2),
    ]
    assert main(arguments) == 0
    own = json.loads(capsys.readouterr().out)
    assert {row["dataset"] for row in own} == {"agentdojo-banking", "agentdojo-slack"}


DEFAULT = {"type": "template_string", "config": {"attack_template": "{{ goal }}"}}


def test_markdown_is_a_table_with_pass_at_k_and_intervals(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two_jobs(folder)
    args = ["--format=markdown", "--k=1", "--k=2", "--errors=success", "--cluster=couple"]
    assert main(["results", *args]) == 2
    head, rule, benign, attack, *below = capsys.readouterr().out.splitlines()
    names = head.strip("| ").split(" | ")
    assert names[4:8] == ["benign_pass@1", "attack_pass@1", "benign_pass@2", "attack_pass@2"]
    assert rule.strip("| ").split(" | ")[3:5] == ["---", "--:"]
    cells = dict(zip(names, attack.strip("| ").split(" | "), strict=True))
    assert cells["agent_name"] == "`openai:gpt-5`"
    assert re.fullmatch(r"0\.500 \[0\.\d{3}, 0\.\d{3}\]", cells["attack_pass@1"])
    assert cells["attack_pass@2"].startswith("1.000 [")
    assert "n/a (n<2)" in benign
    assert below == [
        *("", "intervals of attacked runs speak of these couples, other draws (cluster couple)"),
        *("", "runs in error count as: successes of the attacker, failures of the user"),
    ]


def test_latex_is_a_table_of_booktabs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two_jobs(folder)
    args = ["--format=latex", "--k=1", "--k=2", "--errors=failure", "--cluster=couple"]
    assert main(["results", *args]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == r"% \usepackage{booktabs}"
    columns = re.fullmatch(r"\\begin\{tabular\}\{(l+r+)\}", lines[1])
    assert columns is not None
    assert [lines[at] for at in (2, 4, 7, -1)] == [
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    assert {line.count(" & ") for line in (lines[3], *lines[5:7])} == {len(columns[1]) - 1}
    assert r" & benign\_pass@1 & attack\_pass@1 & benign\_pass@2 & attack\_pass@2 & " in lines[3]
    assert r" & benign\_pass\textasciicircum{}2 & " in lines[3]
    assert r" & template\_string & " in lines[6]
    assert re.search(r" & 0\.250 \[0\.\d{3}, 0\.\d{3}\] & ", lines[6])
    assert lines[-2] == (
        rf"\multicolumn{{{len(columns[1])}}}{{l}}"
        r"{runs in error count as: failures of user and attacker} \\"
    )


_LATEX = (
    r"\\text(backslash|asciicircum|asciitilde|less|greater|bar|quotedbl|asciigrave|quotesingle)\{\}"
)


@pytest.mark.parametrize("char", [chr(code) for code in range(32, 127)] + ["é", "🦊"])
def test_no_character_is_obeyed_by_latex(char: str) -> None:
    for text in (char * 3, f"a{char}b", f"{char}1"):
        made = escaped(text)
        rest = re.sub(_LATEX, "", made)
        rest = re.sub(r"\\[{}$&#%_]", "", rest).replace("-{}-{}", "").replace("{[}", "")
        assert not set(rest.replace("{*}", "")) & set("\\{}$&#%_^~<>|\"`'")
        assert not made.startswith(("[", "*"))
        assert "--" not in made


HOSTILE = "evil\x1b[2J\n[red]x[/red]"


@pytest.mark.parametrize("form", ["table", "csv", "json", "markdown", "latex"])
def test_names_are_never_obeyed_by_a_terminal(
    folder: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    their_job(folder / "theirs", [their_line("00000001", task_id=HOSTILE)])
    assert main(["results", "--group-by", "task", "--format", form]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "[red]x[/red]" in unescape(said).replace("{[}", "[")


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_no_cell_is_a_formula(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    their_job(folder / "theirs", [their_line("00000001", task_id=name)])
    assert main(["results", "--group-by", "task", "--format", "csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert f"'{name}" in row.values()
    assert name not in row.values()


def test_an_encoding_that_lacks_a_character_gets_it_spelled_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    their_job(folder / "theirs", [their_line("00000001", task_id="naïve 🦊")])
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", out)
    for form in ("table", "csv"):
        assert main(["results", "--group-by", "task", "--format", form]) == 0
    assert out.buffer.getvalue().decode().count("na\\xefve") == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("columns", [50, 240])
def test_a_terminal_gets_a_table_or_blocks_that_fit(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    columns: int,
) -> None:
    two_jobs(folder)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    assert main(["results"]) == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(len(line) for line in lines) <= columns
    assert any("0.250 n/a" in line for line in lines)
    assert any("n_errors" in line for line in lines)


REFERENCE = (Path(__file__).parents[2] / "docs/reference/results.md").read_text(encoding="utf-8")


def test_the_reference_names_every_column(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two_jobs(folder)
    row = results(capsys, "--k=2", "--group-by=task,benign_task,malicious_task,vector,job", code=2)[
        0
    ]
    columns = {
        re.sub(r"_(worst_low|worst_high|low|high|n_short|standard_error|lacking)$", r"..._\1", name)
        for name in row
    }
    columns = {re.sub(r"^.*(\.\.\.)", r"\1", name).replace("2", "k") for name in columns}
    assert [name for name in columns if f"`{name}`" not in REFERENCE] == []


def test_the_reference_names_every_option_and_group(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["results", "--help"])
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert options == set(re.findall(r"^\| `(--[a-z-]+)", REFERENCE, re.MULTILINE))
    assert [name for name in (*GROUPS, *FORMATS) if f"`{name}`" not in REFERENCE] == []


def test_a_job_that_is_named_twice_or_linked_to_counts_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two_jobs(folder)
    (folder / "latest").symlink_to("attack")
    assert [row["n_jobs"] for row in results(capsys)] == [1, 1]
    (row,) = results(capsys, "attack", str(folder / "attack"))
    assert row["n_scored"] == 3


def test_scores_that_nobody_can_tell_are_counted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = a_job(folder)
    store.record(unknown_attempt(run_id="00000001", info=run(path=store.path)))
    (row,) = results(capsys)
    assert (row["asr"], row["n_attack_unknown"], row["n_benign_unknown"]) == (None, 1, 0)
    assert main(["results"]) == 0
    assert "n_attack_unknown" in capsys.readouterr().out


def test_how_answers_ended_is_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = a_job(folder)
    for number, finish in enumerate((Finish.COMPLETE, Finish.LENGTH, Finish.LENGTH, None)):
        info = replace(run("t:m", number, path=store.path), identity=f"{number:016x}")
        store.record(attempt(run_id=f"{number:08x}", info=info, finish=finish))
    (row,) = results(capsys)
    counts = {name: row[f"n_{name}"] for name in WORDS}
    assert counts == {**dict.fromkeys(WORDS, 0), "length": 2}
    assert main(["results"]) == 0
    shown = capsys.readouterr().out
    assert "n_length" in shown
    assert "n_refused" not in shown
