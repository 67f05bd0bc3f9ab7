"""How fast a model may be asked, and what happens when its provider refuses.

``Governor`` keeps one ``Budget`` per provider and model, shared by all processes of a session.
``GovernedModel`` takes a place in it for each request, and sends refused and failed ones again.
"""
