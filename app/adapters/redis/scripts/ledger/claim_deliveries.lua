#!lua
-- Lease due deliveries, a few of each receiver in turn. A try is counted before it is made. In a closed
-- store users' deliveries stay as they are: the store that goes on from it has them too. Notices to the
-- operator go out, for they may be about just that.
-- KEYS [1] slot  ARGV [1] {total, per_receiver, per_user, lease_ms,
--      in_flight = {receiver or user = how many the caller carries}}
-- -> {now_ms, deliveries = {{field, value ...} ...}}
local MAX_RECEIVERS = 500  -- looked at in one call

local ask = cjson.decode(ARGV[1])
local in_flight, claimed = ask.in_flight, {}
local closed = redis.call('EXISTS', K.suspect) == 1

local function room_for(receiver, user)
  if closed and user ~= HOUSE_USER then return 0 end
  return math.min(ask.total - #claimed, ask.per_receiver - (in_flight[receiver] or 0),
    ask.per_user - (in_flight[user] or 0))
end

local function claim(id, own)
  local key = K.delivery .. id
  local delivery = read_fields(key, 'state', 'after', 'user', 'receiver', 'tries', 'until')
  if delivery.state ~= 'waiting' then
    redis.call('ZREM', own, id)
    return false
  end
  local before = delivery.after and redis.call('HGET', K.delivery .. delivery.after, 'state')
  if before == 'waiting' then
    redis.call('ZADD', own, int(now_ms + ask.lease_ms), id)
    return false
  end
  -- Each was tried, but no process lived to say how that went.
  if tonumber(delivery.tries) > 0 and now_ms > tonumber(delivery['until']) then
    end_delivery(id, delivery, 'failed')
    return false
  end
  redis.call('HINCRBY', key, 'tries', 1)
  redis.call('HSET', key, 'leased', int(now_ms + ask.lease_ms))
  redis.call('ZADD', own, int(now_ms + ask.lease_ms), id)
  claimed[#claimed + 1] = redis.call('HGETALL', key)
  return true
end

local due = redis.call('ZRANGEBYSCORE', K.receivers, '-inf', int(now_ms), 'LIMIT', 0, MAX_RECEIVERS)
for _, receiver in ipairs(due) do
  if #claimed >= ask.total then break end
  local user, own = string.match(receiver, '^%S+'), K.deliveries .. receiver
  local room = room_for(receiver, user)
  if room > 0 then
    local ids = redis.call('ZRANGEBYSCORE', own, '-inf', int(now_ms), 'LIMIT', 0, room)
    for _, id in ipairs(ids) do
      if claim(id, own) then in_flight[user] = (in_flight[user] or 0) + 1 end
    end
  end
  -- Behind the others, also when it is busy, so that many busy ones cannot hide one that is not.
  schedule_receiver(receiver, now_ms + 1)
end
return named({ now_ms = now_ms, deliveries = claimed })
