#!lua
-- Make a delivery due now, whatever became of it. In a closed store nothing would be told of a user's.
-- KEYS [1] slot  ARGV [1] {id, lifetime_ms}
-- -> {queued = 1 or 0}
-- errors: data_lost (the store is closed)
local ask = cjson.decode(ARGV[1])
local key = K.delivery .. ask.id
local delivery = read_fields(key, 'state', 'user', 'receiver', 'tries', 'url', 'leased')
if not delivery.state or delivery.url == '' then return named({ queued = 0 }) end
if delivery.user ~= HOUSE_USER and redis.call('EXISTS', K.suspect) == 1 then
  return fail(E.data_lost)
end
if delivery.state == 'waiting' and tonumber(delivery.leased or 0) > now_ms then
  return named({ queued = 1 })
end
if delivery.state ~= 'waiting' and not count_undelivered(delivery.user) then
  return named({ queued = 0 })
end
redis.call('HSET', key, 'state', 'waiting', 'until', int(now_ms + ask.lifetime_ms),
  'round', delivery.tries)
redis.call('HDEL', key, 'ended', 'after')
-- As long as it may be tried, and as long again in the log.
redis.call('PEXPIRE', key, int(ask.lifetime_ms * 2 + DELIVERY_LOG_MS))
queue_delivery(ask.id, delivery.receiver, now_ms)
return named({ queued = 1 })
