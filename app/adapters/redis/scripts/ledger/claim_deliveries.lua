#!lua
-- Lease due deliveries, a few of each receiver in turn. A try is counted before it is made.
-- KEYS [1] slot  ARGV [1] {limit, each, lease_ms, receivers = busy ones, users = busy ones}
-- -> {now_ms, deliveries = {{field, value ...} ...}}
local MAX_RECEIVERS = 500  -- looked at in one call

local ask = cjson.decode(ARGV[1])
local busy, claimed = {}, {}
for _, receiver in ipairs(ask.receivers) do busy[receiver] = true end
for _, user in ipairs(ask.users) do busy[user] = true end

local function claim(id, own)
  local key = K.delivery .. id
  local delivery = read_fields(key, 'state', 'after')
  if delivery.state ~= 'waiting' then return redis.call('ZREM', own, id) end
  local before = delivery.after and redis.call('HGET', K.delivery .. delivery.after, 'state')
  if before == 'waiting' then
    return redis.call('ZADD', own, int(now_ms + ask.lease_ms), id)
  end
  redis.call('HINCRBY', key, 'tries', 1)
  redis.call('HSET', key, 'leased', int(now_ms + ask.lease_ms))
  redis.call('ZADD', own, int(now_ms + ask.lease_ms), id)
  claimed[#claimed + 1] = redis.call('HGETALL', key)
end

local due = redis.call('ZRANGEBYSCORE', K.receivers, '-inf', int(now_ms), 'LIMIT', 0, MAX_RECEIVERS)
for _, receiver in ipairs(due) do
  local room = math.min(ask.each, ask.limit - #claimed)
  if room <= 0 then break end
  if not busy[receiver] and not busy[string.match(receiver, '^%S+')] then
    local own = K.deliveries .. receiver
    local ids = redis.call('ZRANGEBYSCORE', own, '-inf', int(now_ms), 'LIMIT', 0, room)
    for _, id in ipairs(ids) do claim(id, own) end
  end
  -- Behind the others, also when it is busy, so that many busy ones cannot hide one that is not.
  schedule_receiver(receiver, now_ms + 1)
end
return named({ now_ms = now_ms, deliveries = claimed })
