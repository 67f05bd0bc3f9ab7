from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI

set_tracing_disabled(True)


async def answer(prompt, tools, base_url, api_key):
    async with AsyncOpenAI(base_url=base_url, api_key=api_key) as client:
        agent = Agent(
            name="shop",
            instructions="You answer customers of a shop.",
            model=OpenAIChatCompletionsModel("any", client),
            tools=[function_tool(tool) for tool in tools],
        )
        return (await Runner.run(agent, prompt)).final_output
