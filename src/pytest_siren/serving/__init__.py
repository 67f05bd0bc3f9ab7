"""A run's tools and its model, served to agents of any language on the loopback interface."""
