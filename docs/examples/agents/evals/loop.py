import json

from mcp import Client
from openai import AsyncOpenAI


async def answer(prompt, base_url, mcp_url, api_key):
    async with AsyncOpenAI(base_url=base_url, api_key=api_key) as model, Client(mcp_url) as tools:
        offered = [
            {"type": "function", "function": {"name": tool.name, "parameters": tool.input_schema}}
            for tool in (await tools.list_tools()).tools
        ]
        messages = [{"role": "user", "content": prompt}]
        while True:
            asked = model.chat.completions.create(model="any", messages=messages, tools=offered)
            said = (await asked).choices[0].message
            messages.append(said.model_dump(exclude_none=True))
            if not said.tool_calls:
                return said.content
            for call in said.tool_calls:
                arguments = json.loads(call.function.arguments)
                text = (await tools.call_tool(call.function.name, arguments)).content[0].text
                messages.append({"role": "tool", "tool_call_id": call.id, "content": text})
