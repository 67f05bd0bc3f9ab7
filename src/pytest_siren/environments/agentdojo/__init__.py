"""AgentDojo's suites as environments."""
