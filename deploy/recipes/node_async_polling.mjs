// Run by `make test`. A task instead of a wait, with OpenAI's SDK for Node: npm install openai
const KOI_URL = 'http://127.0.0.1:8000/v1'
const KOI_KEY = 'sk-koi-…'

import OpenAI from 'openai'

const client = new OpenAI({ baseURL: KOI_URL, apiKey: KOI_KEY })
let task = await client.images.generate({ model: 'grok-imagine', prompt: 'a koi', async: true })
console.log('queued as', task.id)
while (!['completed', 'failed'].includes(task.status)) {
  // Answers when the task ends, or after 25 seconds.
  task = await client.get(`/tasks/${task.id}?wait=25`)
}
console.log(task.status === 'completed' ? task.data[0].url : task.error)
