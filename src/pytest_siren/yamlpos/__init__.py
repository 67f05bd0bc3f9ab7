"""The only reader of YAML: the core schema of YAML 1.2, with the place of each value."""
