"""The report as one HTML page, with the transcripts inside it or in a folder beside it."""

from pytest_siren.evaluation.components import Component, NoConfig
from pytest_siren.reports.html.write import write_html

__all__ = ["component", "write_html"]

component = Component(NoConfig, lambda config, folder: write_html)
