#!lua
-- Record how a try went. One that was claimed again meanwhile is another process's.
-- KEYS [1] slot  ARGV [1] {id, tries, state?, due_ms, status?, error?}
-- -> {state}
local ask = cjson.decode(ARGV[1])
local key = K.delivery .. ask.id
local delivery = read_fields(key, 'state', 'tries', 'user', 'receiver', 'until')
if delivery.state ~= 'waiting' or tonumber(delivery.tries) ~= ask.tries then
  return named({ state = delivery.state or 'failed' })
end
redis.call('HSET', key, 'status', ask.status or '', 'error', ask.error or '', 'leased', 0)
local state = ask.state
if not state and now_ms + ask.due_ms > tonumber(delivery['until']) then state = 'failed' end
if state then
  end_delivery(ask.id, delivery, state)
else
  queue_delivery(ask.id, delivery.receiver, now_ms + ask.due_ms)
end
return named({ state = state or 'waiting' })
