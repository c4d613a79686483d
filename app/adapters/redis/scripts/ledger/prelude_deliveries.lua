-- Deliveries: messages that wait to be posted to a URL, a webhook of a task or a notice to the operator.
-- A receiver is '<user> <origin of the URL>', so that one that is slow holds up nobody else's.

local HOUSE_USER = '@house'           -- whose deliveries notices to the operator are
local MAX_UNDELIVERED = 1000         -- of one user; more are dropped
local MAX_DELIVERY_LOG = 500         -- deliveries of one user that can be listed
local DELIVERY_LOG_MS = 259200000    -- for so long after their end

local function receiver_of(user, url)
  return user .. ' ' .. string.lower(string.match(url, '^%a+://[^/?#]*') or '')
end

-- When a receiver is due is when its first delivery is, and not before `at_ms`.
local function schedule_receiver(receiver, at_ms)
  local first = redis.call('ZRANGE', K.deliveries .. receiver, 0, 0, 'WITHSCORES')
  if first[1] then
    redis.call('ZADD', K.receivers, int(math.max(tonumber(first[2]), at_ms or 0)), receiver)
  else
    redis.call('ZREM', K.receivers, receiver)
  end
end

local function queue_delivery(id, receiver, at_ms)
  redis.call('ZADD', K.deliveries .. receiver, int(at_ms), id)
  schedule_receiver(receiver)
end

-- List a user's delivery; the oldest of too many are forgotten, unless they still wait.
local function log_delivery(user, id)
  local own = K.delivery_log .. user
  redis.call('ZADD', own, int(now_ms), id)
  redis.call('PEXPIRE', own, DELIVERY_LOG_MS * 2)
  for _, old in ipairs(redis.call('ZRANGE', own, 0, -MAX_DELIVERY_LOG - 1)) do
    if redis.call('HGET', K.delivery .. old, 'state') ~= 'waiting' then
      redis.call('PEXPIRE', K.delivery .. old, 1)
    end
    redis.call('ZREM', own, old)
  end
end

-- A delivery that waited is over.
local function end_delivery(id, delivery, state)
  redis.call('HSET', K.delivery .. id, 'state', state, 'ended', int(now_ms), 'leased', 0)
  redis.call('PEXPIRE', K.delivery .. id, DELIVERY_LOG_MS)
  redis.call('ZREM', K.deliveries .. delivery.receiver, id)
  schedule_receiver(delivery.receiver)
  redis.call('HINCRBY', K.undelivered, delivery.user, -1)
end

-- Whether one more of a user's deliveries may wait; counts it then.
local function count_undelivered(user)
  if redis.call('HINCRBY', K.undelivered, user, 1) <= MAX_UNDELIVERED then return true end
  redis.call('HINCRBY', K.undelivered, user, -1)
  return false
end

-- A new delivery, due now; `fields` are its own. It is dropped when too many wait, and only kept in the
-- log without a URL. False when it is there already.
local function open_delivery(id, user, url, lifetime_ms, fields)
  local key, receiver, state = K.delivery .. id, receiver_of(user, url), 'waiting'
  if redis.call('EXISTS', key) == 1 then return false end
  if url == '' then
    state = 'kept'
  elseif not count_undelivered(user) then
    state = 'dropped'
  end
  redis.call('HSET', key, 'id', id, 'user', user, 'url', url, 'receiver', receiver, 'state', state,
    'created', int(now_ms), 'until', int(now_ms + lifetime_ms), 'tries', 0, unpack(fields))
  if state == 'waiting' then
    queue_delivery(id, receiver, now_ms)
  else
    redis.call('HSET', key, 'ended', int(now_ms))
    redis.call('PEXPIRE', key, DELIVERY_LOG_MS)
  end
  log_delivery(user, id)
  return true
end
