// Run by `make test`. OpenAI's SDK for Node: npm install openai
const KOI_URL = 'http://127.0.0.1:8000/v1'
const KOI_KEY = 'sk-koi-…'

import OpenAI from 'openai'

const client = new OpenAI({ baseURL: KOI_URL, apiKey: KOI_KEY })
const answer = await client.images.generate({ model: 'grok-imagine', prompt: 'a koi in a nebula' })
console.log(answer.data[0].url)
