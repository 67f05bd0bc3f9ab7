"""The report as one HTML page, with the transcripts inside it or in a folder beside it."""

from pytest_siren.reports.html.write import write_html

__all__ = ["write_html"]
