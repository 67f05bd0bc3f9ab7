from langchain.agents import create_agent
from langchain_openai import ChatOpenAI


async def answer(prompt, tools, base_url, api_key):
    model = ChatOpenAI(model="any", base_url=base_url, api_key=api_key)
    graph = create_agent(model, tools, system_prompt="You answer customers of a shop.")
    state = await graph.ainvoke({"messages": [("user", prompt)]})
    return state["messages"][-1].text
