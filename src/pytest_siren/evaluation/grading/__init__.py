"""Whether evaluators tell right solutions from wrong ones."""
