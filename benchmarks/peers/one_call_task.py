"""Prompts as an Inspect AI task; runs in Inspect AI's own environment."""

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes
from inspect_ai.solver import generate


@task
def one_call(runs: int) -> Task:
    """Return that many prompts whose answer must contain ``Done``."""
    prompt = "This is task {}. Say when you are done."
    samples = [Sample(input=prompt.format(index), target="Done") for index in range(runs)]
    return Task(dataset=samples, solver=generate(), scorer=includes())
