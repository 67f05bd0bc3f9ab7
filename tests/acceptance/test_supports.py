"""Attacks that step back need an agent that stops at each request."""

from __future__ import annotations

from tests.acceptance.conftest import Project

PARTS = """
from pydantic import BaseModel

from pytest_siren import Component, Kind, Support, World


class NoKeys(BaseModel, extra="forbid"):
    pass


class Box:
    supports = Support.BLACK_BOX
    marks_vectors = True

    async def step(self, state, stage):
        world = World(stage, state)

        async def answer():
            world.submit(world.prompt)

        await world.drive(answer())
        return world.end()


class Search:
    def __init__(self, rewinds):
        self.rewinds = rewinds

    def recording(self, model):
        return None

    async def run(self, stage, target):
        for text in ("nothing", target.couple.malicious.goal):
            end = await stage.finish(await stage.begin(dict.fromkeys(target.vectors, text)))
        return end


def pytest_siren_components_register(registry):
    registry.add(Kind.AGENT, "box", Component(NoKeys, lambda config, base: Box()))
    for name, rewinds in (("search", True), ("retry", False)):
        attack = Component(NoKeys, lambda config, base, rewinds=rewinds: Search(rewinds))
        registry.add(Kind.ATTACK, name, attack)
"""


def prepared(project: Project) -> None:
    project.write("parts.py", PARTS)
    with open(project.path / "conftest.py", "a") as conftest:
        conftest.write('\npytest_plugins = ["parts"]\n')


def test_an_attack_that_steps_back_is_refused_at_collection(distributed: Project) -> None:
    prepared(distributed)
    result = distributed.run("evals", "--attack=search", "--agent=box")
    result.stdout.fnmatch_lines(
        ["*the attack 'search' steps back inside a run, which the agent 'box' (supports: black*"]
    )
    assert distributed.results() == []
    assert distributed.run("evals", "--attack=search").parseoutcomes() == {"failed": 4}


def test_an_attack_that_begins_again_works_with_every_agent(distributed: Project) -> None:
    prepared(distributed)
    distributed.run("evals", "--attack=retry", "--agent=box")
    results = distributed.results()
    assert [result["attack_score"] for result in results] == [1.0] * 4
    assert [result["exposed"] for result in results] == [True] * 4
