// Vercel's AI SDK: `generateImage` with @ai-sdk/openai, or openai-compatible when asked. It has no
// timeout of its own; what it repeats, it repeats without a mark.
import * as ai from 'ai'
import { createOpenAI } from '@ai-sdk/openai'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { digest, serve } from './line.mjs'

const generateImage = ai.generateImage ?? ai.experimental_generateImage
const compatible = process.argv.includes('compatible')

function modelOf(call) {
  if (!compatible) {
    return createOpenAI({ baseURL: call.base_url, apiKey: call.key }).image('grok-imagine')
  }
  const settings = { name: 'koi', baseURL: call.base_url, apiKey: call.key }
  return createOpenAICompatible(settings).imageModel('grok-imagine')
}

// Its warnings about settings that a model may not know would mix with the answers.
globalThis.AI_SDK_LOG_WARNINGS = false

serve(
  async (call, signal) => {
    const ask = { model: modelOf(call), prompt: call.prompt, n: call.n ?? 1, abortSignal: signal }
    const answer = await generateImage({ ...ask, headers: call.headers })
    return { urls: [], b64: answer.images.map((image) => digest(Buffer.from(image.uint8Array))) }
  },
  { hasTimeout: false },
)
