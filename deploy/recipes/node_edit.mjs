// Run by `make test`. Edits, with OpenAI's SDK for Node: npm install openai
const KOI_URL = 'http://127.0.0.1:8000/v1'
const KOI_KEY = 'sk-koi-…'

import OpenAI, { toFile } from 'openai'

// Any model of GET /v1/models whose `references` are above 0.
const model = 'doubao-seedream-4.5'
const client = new OpenAI({ baseURL: KOI_URL, apiKey: KOI_KEY })
const made = await client.images.generate({ model, prompt: 'a koi', response_format: 'b64_json' })
const picture = Buffer.from(made.data[0].b64_json, 'base64')
// Several: image: [one, another]
const image = await toFile(picture, 'before.jpg')
const answer = await client.images.edit({ model, prompt: 'the same koi at night', image })
console.log(answer.data[0].url)
