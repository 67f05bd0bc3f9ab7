"""``--show-config``: what each job comes to, instead of running anything."""

from __future__ import annotations

import pytest

from pytest_siren.session.items.job import RunItem


class ShowConfig:
    """Shows the configurations of the collected jobs, and leaves nothing to run."""

    def __init__(self) -> None:
        self._shown = 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Write a YAML document for each job."""
        # What records are written with is slow to import.
        from pytest_siren.jobs.writing.write import config_text

        runs = [item for item in session.items if isinstance(item, RunItem)]
        writer = session.config.get_terminal_writer()
        for job in {id(run.job): run.job for run in runs}.values():
            count = sum(run.job is job for run in runs)
            file = job.spec.snapshot["eval_file"]
            header = f"{file}: {job.dataset.name}, {job.label}, {count:,} runs"
            content = {**job.spec.snapshot, "identity": job.identity}
            writer.write(f"---\n{config_text(content, [header])}")
            self._shown += 1
        session.items.clear()

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """To run nothing is what was asked for."""
        if self._shown and session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            session.exitstatus = pytest.ExitCode.OK
