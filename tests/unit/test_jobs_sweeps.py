"""What names jobs and sweeps, and what is shown when nothing goes by a name."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pytest_siren.jobs.sweeps import SweepError, find_jobs
from pytest_siren.jobs.writing.store import JobStore


def test_the_latest_jobs_are_the_latest_in_time(tmp_path: Path) -> None:
    for day, name in enumerate(["zebra", "apple", "mango", "pear", "banana"], 1):
        JobStore.open(tmp_path, name, name, {}, created_at=datetime(2026, 1, day, tzinfo=UTC))
    # Not when it was changed, as by --lf.
    os.utime(tmp_path / "zebra/config.yaml")
    with pytest.raises(SweepError, match=r"\(the latest jobs: banana, pear, mango\)"):
        find_jobs(tmp_path, "nosuch", tmp_path)


def test_a_job_whose_configuration_says_no_time_goes_by_that_of_its_file(tmp_path: Path) -> None:
    JobStore.open(tmp_path, "a", "a", {}, created_at=datetime(2026, 1, 2, tzinfo=UTC))
    for name, year in (("older", 2025), ("newer", 2027)):
        config = tmp_path / name / "config.yaml"
        config.parent.mkdir()
        config.write_bytes(b"\xff name: x\n")
        stamp = datetime(year, 1, 1, tzinfo=UTC).timestamp()
        os.utime(config, (stamp, stamp))
    with pytest.raises(SweepError, match="the latest jobs: newer, a, older"):
        find_jobs(tmp_path, "nosuch", tmp_path)


def test_without_jobs_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="the latest jobs: there are none"):
        find_jobs(tmp_path, "nosuch", tmp_path)
