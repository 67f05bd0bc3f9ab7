"""The `siren` command."""
