"""The agent ``command``: any program, which ends with its run and leaves nothing behind."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_siren.agents.programs import RUN_VARIABLE
from tests.acceptance.conftest import Project
from tests.acceptance.test_python_agents import EVAL, TOOLS

pytestmark = pytest.mark.inside

PYTHON = sys.executable
TALKS = """
import json, sys

told = json.loads(sys.stdin.readline())
assert told["system_prompt"] == "Be brief."
assert [tool["name"] for tool in told["tools"]] == ["read_reviews", "order"]


def call(name, arguments, id):
    print(json.dumps({"type": "call", "name": name, "arguments": arguments, "id": id}), flush=True)
    answer = json.loads(sys.stdin.readline())
    assert answer["id"] == id
    return answer["text"]


wrong = call("fly", {}, 1) + " | " + call("order", "{broken", 2)
print(json.dumps({"type": "usage", "input_tokens": 7, "output_tokens": 2, "cost": 0.5}))
print(json.dumps({"type": "answer", "text": call("read_reviews", {}, 3) + " | " + wrong}))
"""


def shop(project: Project, program: str, command: str, config: str = "") -> None:
    """Let ``evals/agent.py`` hold ``program``, and ``command`` start it."""
    (project.path / "evals/eval_mail.yaml").unlink(missing_ok=True)
    project.write("evals/shoptools.py", TOOLS)
    project.write("evals/agent.py", program)
    written = (EVAL % config).replace("type: python", "type: command")
    project.write(
        "evals/eval_shop.yaml",
        written.replace('target: "shop:answer"', f"command: {json.dumps(command)}"),
    )


AGENT = f"{PYTHON} {{folder}}/agent.py"


def outputs(project: Project) -> list[str]:
    return [one["output"] for one in project.results()]


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("import sys\nprint('got', sys.stdin.read())", AGENT),
        ("import sys\nprint('got', sys.argv[1])", AGENT + " '{prompt}'"),
        ("import os\nprint('got', os.environ['SIREN_PROMPT'])", AGENT),
        ("import os\nprint('got', os.environ['ASKED'])", AGENT),
    ],
    ids=["standard input", "argument", "variable", "variable of its own"],
)
def test_a_program_is_given_the_prompt(project: Project, program: str, command: str) -> None:
    shop(project, program, command, ', env: {ASKED: "{prompt}"}')
    project.run("evals").stdout.fnmatch_lines(["shop | command | no model | benign"])
    assert outputs(project) == ["got What do customers say?"]


def test_a_program_calls_tools_by_lines_of_json(project: Project) -> None:
    shop(project, TALKS, AGENT, ", protocol: json_lines")
    project.run("evals", "--attack=direct", "--benign")
    found = {one["attack"]: one for one in project.results()}
    assert found[None]["benign_score"] == 1.0
    assert (found["direct"]["attack_score"], found["direct"]["exposed"]) == (1.0, True)
    assert "there is no tool 'fly'" in found[None]["output"]
    assert "the arguments are not valid JSON" in found[None]["output"]
    assert [one["cost"] for one in found.values()] == [0.5, 0.5]
    assert found[None]["usage"]["input_tokens"] == 7


def test_each_run_has_a_folder_of_its_own(project: Project) -> None:
    program = "import os\nassert os.listdir() == []\nopen('x', 'w').close()\nprint(os.getcwd())"
    shop(project, program, AGENT)
    project.run("evals", "--runs=3")
    folders = outputs(project)
    assert len(set(folders)) == 3
    assert [os.path.exists(folder) for folder in folders] == [False] * 3


FAULTS = {
    "fails": (
        "import sys\nsys.stderr.write('no key\\n')\nsys.exit(3)",
        "agent.py exited with 3: no key",
    ),
    "is killed": (
        "import os\nos.kill(os.getpid(), 11)",
        "agent.py was killed by SIGSEGV",
    ),
    "prints nothing": (
        "import sys\nprint('hm', file=sys.stderr)",
        "agent.py printed nothing: it must print the answer: hm",
    ),
    "prints 10 MB": (
        "import sys\nwhile True: sys.stdout.write('x' * 1_000_000)",
        "agent.py printed more than 1,000,000 bytes (agent.config.max_output)",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_goes_wrong_is_an_error_of_the_run(project: Project, fault: str) -> None:
    program, message = FAULTS[fault]
    shop(project, program, AGENT)
    project.run("evals")
    assert message in project.results()[0]["exception_info"]["exception_message"]


LINES = {
    "no JSON": ("print('Hello')", "line 1 that", "Invalid JSON"),
    "no type": ("print('{}')", "line 1 that", "Unable to extract tag using discriminator 'type'"),
    "a wrong key": (
        'print(\'{"type": "answer", "txt": ""}\')',
        "line 1 that",
        'answer.text: Field required: \'{"type": "answer", "txt": ""}\'',
    ),
    "no answer": ("", "ended without a line", '{"type": "answer", "text": ...}'),
    "an error": ("raise SystemExit('broken')", "agent.py exited with 1", "broken"),
    "a line without end": (
        "import sys\nwhile True: sys.stdout.write('x' * 1_000_000)",
        "printed more than",
        "(agent.config.max_output)",
    ),
}


@pytest.mark.parametrize("fault", LINES)
def test_lines_that_cannot_be_read_are_an_error_of_the_run(project: Project, fault: str) -> None:
    program, begins, message = LINES[fault]
    shop(project, program, AGENT, ", protocol: json_lines")
    project.run("evals")
    found = project.results()[0]["exception_info"]["exception_message"]
    assert begins in found
    assert message in found


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("no-such-program x", "agent.config.command: 'no-such-program' is not on the PATH"),
        (
            "./agent.py",
            "agent.config.command: './agent.py' is no file that can be executed: "
            "chmod +x it, or name its interpreter before ./agent.py",
        ),
        ("", "agent.config.command is empty: give a program"),
    ],
)
def test_a_missing_program_is_an_error_of_the_file(
    project: Project, command: str, message: str
) -> None:
    shop(project, "", command)
    result = project.run("evals")
    assert message in result.stdout.str()
    assert project.results() == []


BREEDS = """
import os, subprocess, sys, time

sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
subprocess.Popen(sleep)
subprocess.Popen(sleep, start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
time.sleep(0.2)
print("I have children.", flush=True)
%s
"""


def of_runs(token: str = "") -> list[str]:
    """Return the processes of runs of agents that are alive, or of the run of ``token``."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue
        if f"{RUN_VARIABLE}={token}".encode() in environment:
            found.append(folder.name)
    return found


@pytest.mark.parametrize("ends", ["by itself", "at its limit"])
def test_a_program_ends_with_all_processes_that_it_started(project: Project, ends: str) -> None:
    hangs = ends == "at its limit"
    shop(project, BREEDS % ("time.sleep(600)" if hangs else ""), AGENT)
    began = time.monotonic()
    project.run("evals", *(["--siren-run-timeout=2"] if hangs else []))
    assert time.monotonic() - began < 60
    [result] = project.results()
    if hangs:
        assert result["exception_info"]["exception_message"] == (
            "the run took longer than 2 s (--siren-run-timeout)"
        )
    else:
        assert result["output"] == "I have children."
    assert of_runs() == []


def test_a_program_ends_with_all_processes_even_if_the_session_is_killed(project: Project) -> None:
    tells = "open(__file__ + '.run', 'w').write(os.environ['%s'] + ' ' + os.getcwd())\n"
    shop(project, BREEDS % (tells % RUN_VARIABLE + "time.sleep(600)"), AGENT)
    session = project.start("evals")
    note = project.path / "evals/agent.py.run"
    until(lambda: note.exists() and note.read_text() != "")
    run, folder = note.read_text().split()[0], Path(note.read_text().split()[1])
    assert folder.exists()
    assert len(of_runs(run)) == 4
    session.kill()
    session.finish()
    until(lambda: not of_runs(run))
    until(lambda: not folder.exists())


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_program_that_reads_nothing_and_hangs_is_killed_at_its_own_limit(
    project: Project,
) -> None:
    shop(project, "import signal, time\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(600)", AGENT,
         ", timeout: 1")  # fmt: skip
    project.run("evals")
    message = project.results()[0]["exception_info"]["exception_message"]
    assert message == "the agent took longer than 1 s (agent.config.timeout)"
    assert of_runs() == []


def test_nothing_stays_open_after_200_runs(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of the process that executes runs, which is that of this test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    shop(project, "", "sh -c 'echo Good value; sleep 600 & exec >&2 2>/dev/null'")
    project.run("evals")

    def held() -> tuple[int, set[str]]:
        return len(os.listdir("/proc/self/fd")), set(os.listdir(tmp_path))

    before, _ = held()
    assert project.run("evals", "--runs=200", "--concurrency=16").parseoutcomes() == {"failed": 200}
    after, left = held()
    assert after <= before + 2
    assert not [name for name in left if name.startswith("siren-agent-")]
    assert of_runs() == []


def test_another_text_of_the_program_makes_other_jobs(project: Project) -> None:
    shop(project, "print('a')", AGENT)
    project.run("evals")
    shop(project, "print('b')", AGENT)
    project.run("evals")
    assert len(project.jobs()) == 2
