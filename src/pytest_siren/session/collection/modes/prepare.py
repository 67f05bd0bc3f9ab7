"""``--run-mode prepare``: parts download and build what they need, before nodes without network."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pytest_siren.evaluation.components import Part, SupportsPrepare, awaited, implements, once
from pytest_siren.evaluation.isolation import UserInterrupt, marked_interrupts, one_line
from pytest_siren.evaluation.models import Checked
from pytest_siren.session.collection.modes.base import LONGEST_NAME, Mode, jobs_of
from pytest_siren.session.config.invocation import redactor
from pytest_siren.session.items.job import RunItem
from pytest_siren.session.items.report import screened
from pytest_siren.text.words import printable


class Prepare(Mode):
    """Prepares each part once, whichever jobs it belongs to."""

    def act(self, runs: Sequence[RunItem]) -> None:
        """Prepare the parts of the jobs of ``runs``. One that fails does not stop the others."""
        ready = problems = 0
        for part in once(part for job in jobs_of(runs) for part in job.parts):
            if not (implements(part.value, SupportsPrepare) or implements(part.value, Checked)):
                continue
            try:
                with marked_interrupts():
                    self._prepare(part)
                ready += 1
            except UserInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - the code of a part; it is shown
                problems += 1
                self._line(part, one_line(error), red=True)
        self.failed = problems > 0
        lacking = f", {problems:,} not: see above" if problems else ""
        self.say(f"prepared: {ready:,} parts{lacking}; no run was executed", bold=True)

    def _prepare(self, part: Part) -> None:
        if implements(part.value, SupportsPrepare):
            found = part.value.prepare(lambda line: self._line(part, line))
            asyncio.run(awaited(found))
        if implements(part.value, Checked):
            part.value.check()

    def _line(self, part: Part, text: str, **markup: bool) -> None:
        line = screened(f"{part.label}: {text}", redactor(self.config))
        self.say(printable(line, 2 * LONGEST_NAME), **markup)
