#!lua
-- Queue a notice to the operator, unless the same one was published within its period. A ledger that
-- lost data is no reason not to tell.
-- KEYS [1] slot  ARGV [1] {id, user, url, kind, subject, occasion, data, period_ms, lifetime_ms}
-- -> {published = 1 or 0}
local ask = cjson.decode(ARGV[1])
local key = K.noticed .. table.concat({ ask.kind, ask.subject, ask.occasion }, ' ')
if not redis.call('SET', key, ask.id, 'NX', 'PX', int(ask.period_ms)) then
  return named({ published = 0 })
end
open_delivery(ask.id, ask.user, ask.url, ask.lifetime_ms, {
  'type', ask.kind, 'subject', ask.subject, 'data', ask.data,
})
return named({ published = 1 })
