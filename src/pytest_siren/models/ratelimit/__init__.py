"""How fast a model may be asked, and what happens when its provider refuses."""
