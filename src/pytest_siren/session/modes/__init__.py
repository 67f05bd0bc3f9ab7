"""What a session does instead of executing runs: ``--run-mode`` and ``--plan-only``."""
