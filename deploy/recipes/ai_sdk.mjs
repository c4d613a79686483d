// Run by tests/flow/test_recipes.py where `make clients` has installed it. Vercel's AI SDK: npm install ai @ai-sdk/openai-compatible
const KOI_URL = 'http://127.0.0.1:8000/v1'
const KOI_KEY = 'sk-koi-…'

import { writeFile } from 'node:fs/promises'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import * as ai from 'ai'

const koi = createOpenAICompatible({ name: 'koi', baseURL: KOI_URL, apiKey: KOI_KEY })
const generateImage = ai.generateImage ?? ai.experimental_generateImage // its name before AI SDK 6
const { image } = await generateImage({ model: koi.imageModel('grok-imagine'), prompt: 'a koi in a nebula' })
await writeFile('koi.jpg', image.uint8Array)
console.log('koi.jpg')
