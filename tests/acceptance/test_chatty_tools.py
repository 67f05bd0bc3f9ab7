"""Tools that print much, from several threads at once."""

from __future__ import annotations

from tests.acceptance.conftest import Project

TOOLS = r'''
import sys
import threading
import warnings

ESCAPE = "\x1b]52;c;RAW\x07\n"


def emit(task):
    for i in range(200):
        # In one piece: those of print mix with what the other threads print.
        sys.stdout.write(f"step {i} of {task}\n")
        print(end="", flush=True)
        sys.stdout.write(ESCAPE)
        sys.__stdout__.write("::error::RAW\n")
        sys.__stdout__.flush()
        sys.stdout.buffer.write(b"RAW\n")
        print(ESCAPE, file=sys.stderr)
        if i % 20 == 0:
            warnings.warn(f"{i} of {task} {ESCAPE}")


def chat(task: str) -> str:
    """Talk a lot."""
    threads = [threading.Thread(target=emit, args=(task,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    emit(task)
    for thread in threads:
        thread.join()
    return "done"
'''
TEST = """
import time


def test_quiet(capsys):
    print("hi")
    time.sleep(0.2)
    assert capsys.readouterr() == ("hi\\n", "")
"""


def test_what_tools_print_belongs_to_their_runs_and_never_reaches_the_terminal(
    project: Project,
) -> None:
    project.write("evals/chatty.py", TOOLS)
    project.write("evals/test_quiet.py", TEST)
    tasks = "".join(
        f"      - {{id: t{i}, prompt: go, evaluators: [{{type: contains, value: never}}], "
        f"ground_truth: {{calls: [{{name: chat, arguments: {{task: t{i}}}}}], output: fin}}}}\n"
        for i in range(12)
    )
    project.write(
        "evals/eval_mail.yaml",
        "dataset:\n  type: inline\n  config:\n    name: chatty\n"
        f"    tools: ['chatty:chat']\n    tasks:\n{tasks}"
        "agent: {config: {model: 'control:ground-truth'}}\n",
    )
    result = project.run("evals", "-p", "no:xdist", "-v")
    result.assert_outcomes(failed=12, passed=1)
    output = result.stdout.str() + result.stderr.str()
    assert "\x1b" not in output
    assert not any(line.startswith("::error") for line in output.splitlines())
    for i in range(12):
        assert output.count(f"step 199 of t{i}\n") == 3
    sections = output.split("Captured stdout call")[1:]
    assert len(sections) == 12
    for section in sections:
        tasks_in_section = {
            line.rpartition(" ")[2] for line in section.splitlines() if line.startswith("step ")
        }
        assert len(tasks_in_section) == 1
