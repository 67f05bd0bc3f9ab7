"""What agents tell of themselves by OpenTelemetry is part of the record of their run."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from tests.acceptance.conftest import Project

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
pytest.importorskip("mcp")

DATASET = """
dataset:
  type: inline
  config:
    name: shop
    tasks:
      - id: opinion
        prompt: What do customers say?
        evaluators: {good: {type: contains, value: Good value}}
"""
TRACED = '''
import json

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
tracer = provider.get_tracer("shop")


def answer(carrier):
    """Answer, and tell of a tool and of a model."""
    parent = TraceContextTextMapPropagator().extract(carrier)
    with tracer.start_as_current_span("answer", context=parent):
        with tracer.start_as_current_span("execute_tool search") as span:
            span.set_attribute("gen_ai.operation.name", "execute_tool")
            span.set_attribute("gen_ai.tool.name", "search")
            span.set_attribute("gen_ai.tool.call.arguments", '{"key": "sk-very-secret-0123456789"}')
            span.set_attribute("gen_ai.tool.call.result", "Good value <b>")
        with tracer.start_as_current_span("chat") as span:
            span.set_attribute("gen_ai.operation.name", "chat")
            span.set_attribute("gen_ai.request.model", "house-model")
            span.set_attribute("gen_ai.usage.input_tokens", 12)
    return "Good value"
'''
PROGRAM = f"""{TRACED}
import os
print(answer({{"traceparent": os.environ.get("TRACEPARENT", "")}}))
provider.shutdown()
"""
SERVICE = f"""{TRACED}
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Shop(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()

    def do_POST(self):
        prompt = self.rfile.read(int(self.headers["content-length"]))
        said = answer({{"traceparent": self.headers.get("traceparent", "")}})
        self.send_response(200)
        self.end_headers()
        self.wfile.write(said.encode())


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Shop).serve_forever()
"""
IN_PROCESS = '''
import threading

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from pydantic_ai import Agent
from pydantic_ai.capabilities.instrumentation import Instrumentation
from pydantic_ai.models.test import TestModel

trace.set_tracer_provider(TracerProvider())
agent = Agent(TestModel(custom_output_text="Good value"), capabilities=[Instrumentation()])


@agent.tool_plain
def search(query: str) -> str:
    """Search."""
    return "Fine."


def elsewhere(context):
    tracer = trace.get_tracer("shop")
    with tracer.start_as_current_span("execute_tool far", context=context) as span:
        span.set_attribute("gen_ai.operation.name", "execute_tool")
        span.set_attribute("gen_ai.tool.name", "far")


async def answer(prompt):
    with trace.get_tracer("shop").start_as_current_span("outer") as span:
        work = threading.Thread(target=elsewhere, args=[trace.set_span_in_context(span)])
        work.start()
        work.join()
    return (await agent.run(prompt)).output
'''


def shop(project: Project, agent: str, **files: str) -> None:
    (project.path / "evals/eval_mail.yaml").unlink(missing_ok=True)
    for name, text in files.items():
        project.write(f"evals/{name}.py", text)
    project.write("evals/eval_shop.yaml", f"{DATASET}agent: {agent}\n")


def spans(project: Project) -> list[list[dict[str, Any]]]:
    """Return the recorded spans of each run."""
    return [one.get("spans", []) for one in project.executions()]


def check(found: list[dict[str, Any]]) -> None:
    assert [(one["kind"], one["subject"]) for one in found] == [
        ("tool", "search"),
        ("model", "house-model"),
    ]
    assert found[0]["output"] == "Good value <b>"
    assert (found[1]["input_tokens"], found[1]["output_tokens"]) == (12, None)


@pytest.fixture(autouse=True)
def _loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SHOP_API_KEY", "sk-very-secret-0123456789")


@pytest.mark.inside
def test_a_program_exports_to_the_address_of_its_run(project: Project) -> None:
    command = f'command: "{sys.executable} {{folder}}/program.py", spans: true'
    shop(project, f"{{type: command, config: {{{command}}}}}", program=PROGRAM)
    assert project.run("evals", "--siren-report=report.html").parseoutcomes()["passed"] == 1
    [found] = spans(project)
    check(found)
    assert "very-secret" not in json.dumps(found)
    page = (project.path / "report.html").read_text()
    assert "house-model" in page
    assert "Good value <b>" not in page


@pytest.mark.inside
def test_a_program_that_has_a_collector_keeps_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    source = "import os; print('Good value', os.environ['OTEL_EXPORTER_OTLP_ENDPOINT'])"
    command = f'command: "{sys.executable} {{folder}}/program.py", spans: true'
    shop(project, f"{{type: command, config: {{{command}}}}}", program=source)
    project.run("evals")
    assert project.results()[0]["output"] == "Good value http://127.0.0.1:9"


@pytest.mark.inside
def test_the_spans_of_a_service_go_to_the_runs_that_asked(project: Project) -> None:
    config = (
        'url: "http://127.0.0.1:{port}/chat", spans: 20, '
        f'start: {{command: "{sys.executable} {{folder}}/service.py {{port}}"}}'
    )
    shop(project, f"{{type: http, config: {{{config}}}}}", service=SERVICE)
    project.run("evals", "--runs=3")
    found = spans(project)
    assert len(found) == 3
    for one in found:
        check(one)
    ids = {span["span_id"] for one in found for span in one}
    assert len(ids) == 6


def test_agents_in_this_process_are_seen(project: Project) -> None:
    shop(project, "{type: python, config: {target: 'inside:answer'}}", inside=IN_PROCESS)
    project.run("evals", "--runs=2")
    for found in spans(project):
        named = [(one["kind"], one["subject"]) for one in found]
        assert ("tool", "far") in named, "of a thread that only knows its parent"
        assert ("tool", "search") in named
        assert named.count(("model", "test")) == 2
        assert len(named) == 5
    assert len(spans(project)) == 2


@pytest.mark.inside
def test_the_trace_of_a_run_goes_on_in_its_program(project: Project) -> None:
    source = "import os; print('Good value', os.environ['TRACEPARENT'])"
    command = f'command: "{sys.executable} {{folder}}/program.py", spans: true'
    shop(project, f"{{type: command, config: {{{command}}}}}", program=source)
    project.run("evals", "--set=telemetry.trace_console=true")
    [execution] = project.executions()
    parent = f"00-{execution['trace_id']}-{execution['span_id']}-"
    assert project.results()[0]["output"].startswith(f"Good value {parent}")
