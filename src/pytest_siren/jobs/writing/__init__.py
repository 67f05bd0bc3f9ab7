"""Writes the files of a job, and repairs its index."""
