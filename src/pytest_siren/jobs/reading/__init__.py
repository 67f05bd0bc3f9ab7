"""Reads the files of a job, of pytest-siren or of prompt-siren."""
