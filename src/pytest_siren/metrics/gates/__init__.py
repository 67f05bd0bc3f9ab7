"""Gates: conditions on measures that hold, are broken, or are inconclusive."""
