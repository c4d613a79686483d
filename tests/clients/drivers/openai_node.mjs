// The official Node SDK, as released.
import OpenAI from 'openai'
import { serve, told } from './line.mjs'

const clients = new Map()

function clientOf(call) {
  const name = `${call.base_url} ${call.key} ${call.timeout_s}`
  if (!clients.has(name)) {
    const timeout = call.timeout_s ? { timeout: call.timeout_s * 1000 } : {}
    clients.set(name, new OpenAI({ baseURL: call.base_url, apiKey: call.key, ...timeout }))
  }
  return clients.get(name)
}

serve(async (call, signal) => {
  const ask = { model: 'grok-imagine', prompt: call.prompt, n: call.n ?? 1 }
  const answer = await clientOf(call).images.generate(ask, { signal, headers: call.headers })
  return told(answer.data)
})
