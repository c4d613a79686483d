-- Shared by all scripts. `K` names the keys (keyspace.py), `E` the error codes (replies.py).

-- The store's clock, read once, is the only clock of a script. Unix time in micro- and milliseconds.
local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now_ms = math.floor(now_us / 1000)
local position = '0'  -- how much of the ledger's history the reply takes into account

-- Whole numbers as text. Lua writes large ones with an exponent, and '%d' turns -0 into 0. A number
-- that is whole, and not -0, may go to the store as it is: that costs less.
local function int(n)
  return string.format(n % 1 == 0 and '%d' or '%.0f', n)
end

-- A reply with named fields: a map for the client. A field that is nil is left out.
local function named(fields)
  return { map = fields }
end

-- The error reply of every script: a code of `E` and named fields. Nothing was changed.
local function fail(code, fields)
  return { assert(code, 'no such error code'), position, {}, named(fields or {}) }
end

-- The store's clock may be set while jobs wait for their time. So each host sends its monotonic
-- clock, and the store keeps it beside its own time: {last = newest time seen, <host> = '<host ms>
-- <store ms>'}. A jump that no host's clock accounts for is a step; hours without calls are not.
local MIN_STEP_BACK_MS = 2000    -- smaller steps back are ignored
local MIN_STEP_AHEAD_MS = 30000  -- and ahead: a call may have waited that long before it ran
local MAX_STAMP_AGE_MS = 5000    -- the stored times are written again when they are older
local HOST_TTL_MS = 86400000     -- hosts that were silent for longer are forgotten

-- How far the clock was set since the last call, in ms; nearly always 0. `stamp` is
-- '<host> <ms of its monotonic clock>'.
local function clock_step(key, stamp)
  local host, own_ms = string.match(stamp or '', '^(%S+) (%d+)$')
  if not host then return 0 end
  local stored = redis.call('HMGET', key, 'last', host)
  local last, last_own_ms, last_store_ms = (stored[1] or now_ms) + 0, nil, nil
  if stored[2] then last_own_ms, last_store_ms = string.match(stored[2], '^(%d+) (%d+)$') end
  local due = last
  local elapsed = last_own_ms and own_ms - last_own_ms or -1
  if elapsed >= 0 then due = math.max(last_store_ms + elapsed, last) end
  local step = 0
  if now_ms < last - MIN_STEP_BACK_MS or (elapsed >= 0 and now_ms > due + MIN_STEP_AHEAD_MS) then
    step = now_ms - due
    local all = redis.call('HGETALL', key)
    for i = 1, #all, 2 do
      local host_ms, store_ms = string.match(all[i + 1], '^(%d+) (%d+)$')
      if host_ms then redis.call('HSET', key, all[i], host_ms .. ' ' .. int(store_ms + step)) end
    end
  end
  if not stored[2] then
    local all = redis.call('HGETALL', key)
    for i = 1, #all, 2 do
      local store_ms = string.match(all[i + 1], '^%d+ (%d+)$')
      if store_ms and now_ms - store_ms > HOST_TTL_MS then redis.call('HDEL', key, all[i]) end
    end
  end
  if step ~= 0 or not stored[2] or now_ms - last_store_ms >= MAX_STAMP_AGE_MS then
    redis.call('HSET', key, 'last', int(step ~= 0 and now_ms or math.max(now_ms, last)),
      host, own_ms .. ' ' .. int(now_ms))
  end
  return step
end
