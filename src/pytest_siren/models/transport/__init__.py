"""HTTP connections to providers, and the order of what goes over them."""
