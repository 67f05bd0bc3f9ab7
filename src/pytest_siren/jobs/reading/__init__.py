"""Reads the files of a job, whoever wrote them."""
