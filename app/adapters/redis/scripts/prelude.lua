-- The store's clock, read once: the only clock in here. Microseconds and milliseconds of Unix time.
local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now_ms = math.floor(now_us / 1000)

-- Whole numbers as text. Lua writes large ones with an exponent, and adding 0 turns -0 into 0.
local function int(n)
  return string.format('%.0f', n + 0)
end

-- The clock may be set while jobs wait for their time. Each host says what host_ms own_ms monotonic clock
-- shows, and the store remembers it beside host_ms own_ms time: {last = newest ms seen, <host> = '<host_ms ms>
-- <store_ms>'}. Only a time that no host's clock accounts for is a step; hours in which nobody asked are
-- not.
local MIN_STEP_BACK_MS = 2000        -- steps back by less are ignored
local MIN_STEP_AHEAD_MS = 30000      -- and ahead: a call may have lain that long before it was run
local MAX_STAMP_AGE_MS = 5000    -- so old the newest time seen may be
local HOST_TTL_MS = 86400000  -- hosts that were not heard of for so long

-- How far the clock was set since somebody last asked, in ms; 0 nearly always. `stamp` is
-- '<host> <ms of its monotonic clock>'.
local function clock_step(key, stamp)
  local host, own_ms = string.match(stamp or '', '^(%S+) (%d+)$')
  if not host then return 0 end
  local seen = redis.call('HMGET', key, 'last', host)
  local last, last_own_ms, last_store_ms = tonumber(seen[1] or now_ms), nil, nil
  if seen[2] then last_own_ms, last_store_ms = string.match(seen[2], '^(%d+) (%d+)$') end
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
  if not seen[2] then
    local all = redis.call('HGETALL', key)
    for i = 1, #all, 2 do
      local store_ms = string.match(all[i + 1], '^%d+ (%d+)$')
      if store_ms and now_ms - store_ms > HOST_TTL_MS then redis.call('HDEL', key, all[i]) end
    end
  end
  if step ~= 0 or not seen[2] or now_ms - last_store_ms >= MAX_STAMP_AGE_MS then
    redis.call('HSET', key, 'last', int(step ~= 0 and now_ms or math.max(now_ms, last)),
      host, own_ms .. ' ' .. int(now_ms))
  end
  return step
end
