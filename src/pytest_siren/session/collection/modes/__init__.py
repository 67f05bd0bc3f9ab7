"""Run modes: what a session does instead of executing its runs."""
