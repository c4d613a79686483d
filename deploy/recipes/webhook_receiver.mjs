// Run by `make test`. Takes the webhooks of tasks and verifies them: npm install standardwebhooks
const PORT = 8080
const SECRET = 'whsec_…' // GET /v1/koi/webhooks/secret with your key

import { createServer } from 'node:http'
import { Webhook } from 'standardwebhooks'

const seen = new Set()

createServer(async (request, response) => {
  let body = ''
  for await (const part of request) body += part
  try {
    const message = new Webhook(SECRET).verify(body, request.headers)
    const id = request.headers['webhook-id']
    // A message may come twice, with the same id.
    if (!seen.has(id)) console.log(message.type, message.data.id, ...(message.data.data ?? []).map((p) => p.url))
    seen.add(id)
    response.writeHead(204).end()
  } catch {
    response.writeHead(401).end()
  }
}).listen(PORT, '127.0.0.1')
