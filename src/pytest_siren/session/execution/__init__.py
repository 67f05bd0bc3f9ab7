"""Executes runs side by side, and reports them to pytest."""
