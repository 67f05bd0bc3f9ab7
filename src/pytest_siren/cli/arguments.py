"""Arguments that several commands have."""

from __future__ import annotations

import argparse

from pytest_siren.metrics.choices import Cluster


def add_jobs_dir(parser: argparse.ArgumentParser) -> None:
    """Add ``--jobs-dir``, the folder in which jobs are looked for."""
    parser.add_argument(
        "--jobs-dir", default="jobs", metavar="DIR", help="where jobs are (default: ./jobs)"
    )


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Add ``--cluster``, what intervals take for alike."""
    parser.add_argument(
        "--cluster",
        choices=tuple(Cluster),
        default=Cluster.COUPLE,
        help="what runs must share to be taken for alike: the couple (default), or its benign or "
        "malicious task",
    )
