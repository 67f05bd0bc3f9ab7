"""Output of a session: outcomes, progress, the summary, report files."""
