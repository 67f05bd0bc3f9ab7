"""``--run-mode generate-only``: the folders of the jobs, for another session to execute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pytest_siren.session.collection.modes.base import LONGEST_NAME, Mode, jobs_of, title
from pytest_siren.session.config.invocation import remember
from pytest_siren.session.config.stash import SESSION
from pytest_siren.session.execution.run_loop import CANNOT_BEGIN
from pytest_siren.session.items.job import RunItem
from pytest_siren.session.recording.recorder import RECORDER
from pytest_siren.text.words import printable, shown


class GenerateOnly(Mode):
    """Makes the folders, the sweep's file and the note that ``--lf`` looks for."""

    def act(self, runs: Sequence[RunItem]) -> None:
        """Make them, and say how to execute what is in them."""
        if not runs:
            return
        recorder = self.config.stash[RECORDER]
        try:
            remember(self.config, recorder.begin(runs), recorder.cells())
        except CANNOT_BEGIN as error:
            self.failed = True
            self.say(f"ERROR: {printable(str(error), 2 * LONGEST_NAME)}", red=True)
            return
        counts = Counter(id(run.job) for run in runs)
        for job in jobs_of(runs):
            folder = recorder.folder(job)
            assert folder is not None
            self.say(title(job), bold=True)
            path = printable(str(shown(folder, self.config.rootpath)), 2 * LONGEST_NAME)
            self.say(f"  {path}: {counts[id(job)]:,} runs pending")
        self.say(f"execute them with: pytest --resume {self.config.stash[SESSION].sweep}")
