"""Jobs in the formats of other tools."""
