"""Jobs on disk: names, configuration, records and their index."""
