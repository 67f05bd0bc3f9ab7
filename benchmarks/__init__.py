"""Benchmarks of pytest-siren and its peers; see README.md."""
