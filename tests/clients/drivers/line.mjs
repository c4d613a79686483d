// The line protocol of every Node driver; see line.py.
import { createHash } from 'node:crypto'
import { createInterface } from 'node:readline'

export const digest = (bytes) => ({
  bytes: bytes.length,
  sha256: createHash('sha256').update(bytes).digest('hex'),
})

export function told(items) {
  const urls = []
  const b64 = []
  for (const item of items) {
    if (item.b64_json) b64.push(digest(Buffer.from(item.b64_json, 'base64')))
    else if (item.url) urls.push(item.url)
  }
  return { urls, b64 }
}

// A second connection, so that a repeat does not need a new one.
export async function warm(call) {
  const headers = { authorization: `Bearer ${call.key}` }
  const answers = await Promise.all([0, 1].map(() => fetch(`${call.base_url}/models`, { headers })))
  await Promise.all(answers.map((answer) => answer.text()))
}

// `make(call, signal)` makes one call with the client's own retries.
export function serve(make, { hangsUp = true, hasTimeout = true } = {}) {
  createInterface({ input: process.stdin }).on('line', async (text) => {
    const call = JSON.parse(text)
    const lacks = ('hang_up_after_s' in call && !hangsUp) || ('timeout_s' in call && !hasTimeout)
    say(lacks ? { id: call.id, lacks } : await answer(make, call))
  })
}

async function answer(make, call) {
  const began = performance.now()
  let said
  try {
    if ('hang_up_after_s' in call) await hangUp(make, call)
    said = { ok: true, ...(await make(call)) }
  } catch (error) {
    said = { ok: false, error: named(error), status: deepest(error)?.status ?? deepest(error)?.statusCode ?? null }
  }
  return { id: call.id, seconds: Number(((performance.now() - began) / 1000).toFixed(2)), ...said }
}

async function hangUp(make, call) {
  await warm(call)
  const gone = new AbortController()
  make(call, gone.signal).catch(() => {})
  await new Promise((done) => setTimeout(done, call.hang_up_after_s * 1000))
  gone.abort()
}

// AI SDK wraps the last failure of several tries.
const deepest = (error) => error.lastError ?? error

function named(error) {
  const last = deepest(error)
  const name = last.constructor.name === 'Error' ? last.name : last.constructor.name
  const code = last.code ?? last.data?.error?.code
  return code ? `${name} ${code}` : `${name}: ${String(last.message).slice(0, 120)}`
}

const say = (said) => process.stdout.write(`${JSON.stringify(said)}\n`)
