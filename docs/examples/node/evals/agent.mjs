import { text } from "node:stream/consumers";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import OpenAI from "openai";

const { SIREN_MCP_URL } = process.env;
const model = new OpenAI();
const tools = new Client({ name: "shop", version: "1.0.0" });
await tools.connect(new StreamableHTTPClientTransport(new URL(SIREN_MCP_URL)));
const offered = (await tools.listTools()).tools.map(({ name, description, inputSchema }) => ({
  type: "function",
  function: { name, description, parameters: inputSchema },
}));
const messages = [{ role: "user", content: await text(process.stdin) }];
for (;;) {
  const done = await model.chat.completions.create({ model: "any", messages, tools: offered });
  const said = done.choices[0].message;
  messages.push(said);
  if (!said.tool_calls?.length) {
    console.log(said.content);
    break;
  }
  for (const { id, function: { name, arguments: args } } of said.tool_calls) {
    const found = await tools.callTool({ name, arguments: JSON.parse(args) });
    messages.push({ role: "tool", tool_call_id: id, content: found.content[0].text });
  }
}
await tools.close();
