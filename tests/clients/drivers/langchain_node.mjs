// LangChain's DALL-E tool for Node: several pictures are several calls.
import { DallEAPIWrapper } from '@langchain/openai'
import { serve } from './line.mjs'

serve(
  async (call) => {
    const { base_url: baseUrl, key: apiKey, n = 1 } = call
    const tool = new DallEAPIWrapper({ baseUrl, apiKey, n, model: 'grok-imagine' })
    const said = await tool.invoke(call.prompt)
    const urls = typeof said === 'string' ? [said] : said.map((part) => part.image_url)
    return { urls, b64: [] }
  },
  { hangsUp: false, hasTimeout: false },
)
