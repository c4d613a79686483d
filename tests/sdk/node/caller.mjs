// The official Node SDK as a caller of Koi: prints what it saw as one JSON line per step.
import OpenAI, { toFile } from 'openai'

const [baseURL, apiKey, step] = process.argv.slice(2)
const client = new OpenAI({ baseURL, apiKey, timeout: 20000 })
const ask = { model: 'grok-imagine', prompt: `a koi ${step}` }

const steps = {
  async generate() {
    const answer = await client.images.generate({ ...ask, size: '1536x1024', n: 2 })
    const picture = await fetch(answer.data[0].url)
    // Node does not end while a body waits to be read.
    const { byteLength } = await picture.arrayBuffer()
    return { images: answer.data.length, type: picture.headers.get('content-type'), bytes: byteLength, id: answer._request_id }
  },
  async b64() {
    const answer = await client.images.generate({ ...ask, response_format: 'b64_json', n: null, size: null })
    return { bytes: Buffer.from(answer.data[0].b64_json, 'base64').length }
  },
  async task() {
    const task = await client.images.generate({ ...ask, async: true })
    const done = await client.get(`/tasks/${task.id}?wait=10`)
    return { first: task.status, last: done.status, url: done.data[0].url }
  },
  async stream() {
    const events = []
    for await (const event of await client.images.generate({ ...ask, stream: true })) events.push(event.type)
    return { events }
  },
  async refused() {
    try {
      await client.images.generate({ ...ask, n: 11 })
    } catch (error) {
      return { name: error.constructor.name, status: error.status, code: error.code, param: error.param, id: error.requestID }
    }
  },
  async failing() {
    try {
      await client.images.generate({ ...ask, prompt: '[fault:500] a koi' })
    } catch (error) {
      return { name: error.constructor.name, code: error.code }
    }
  },
  async impatient() {
    const hasty = new OpenAI({ baseURL, apiKey, timeout: 700, maxRetries: 4 })
    const answer = await hasty.images.generate(ask)
    return { images: answer.data.length }
  },
  async edit() {
    const koi = Buffer.from(process.argv[5], 'base64')
    const image = [await toFile(koi, '../../koi.png', { type: 'image/png' }), await toFile(koi, 'koi.png')]
    const answer = await client.images.edit({ model: 'doubao-seedream-4.5', prompt: 'two', image, n: 2, response_format: 'b64_json' })
    const events = []
    const asked = { model: 'doubao-seedream-4.5', prompt: 'one', image: await toFile(koi, 'koi.png'), stream: true }
    for await (const event of await client.images.edit(asked)) events.push(event.type)
    return { images: answer.data.length, bytes: Buffer.from(answer.data[0].b64_json, 'base64').length, events }
  },
  async form() {
    const form = new FormData()
    for (const [name, text] of Object.entries({ model: '', prompt: 'as a browser', n: '1', size: '', background: 'auto', async: 'false' })) {
      form.append(name, text)
    }
    form.append('mask', new File([], ''))
    form.append('image[]', new Blob([Buffer.from(process.argv[5], 'base64')]))
    const answer = await fetch(`${baseURL}/images/edits`, { method: 'POST', headers: { Authorization: `Bearer ${apiKey}` }, body: form })
    return { status: answer.status, body: await answer.json() }
  },
  async models() {
    const ids = []
    for await (const model of client.models.list()) ids.push(model.id)
    return { ids }
  },
}

console.log(JSON.stringify(await steps[step]()))
