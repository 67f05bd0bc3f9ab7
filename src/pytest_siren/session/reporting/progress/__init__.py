"""Progress while evaluations run."""
