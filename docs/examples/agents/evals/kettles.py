from pydantic_ai import Agent

agent = Agent("test", instructions="You answer customers of a shop.")


@agent.tool_plain
def opening_hours() -> str:
    """When the shop is open."""
    return "nine to five"
