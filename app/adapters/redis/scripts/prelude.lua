-- The store's clock, read once: the only clock in here. Microseconds and milliseconds of Unix time.
local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now_ms = math.floor(now_us / 1000)

-- Whole numbers as text. Lua writes large ones with an exponent, and adding 0 turns -0 into 0.
local function int(n)
  return string.format('%.0f', n + 0)
end

-- The clock may be set while jobs wait for their time. Each host says what its own monotonic clock
-- shows, and the store remembers it beside its own time: {last = newest ms seen, <host> = '<its ms>
-- <ours>'}. Only a time that no host's clock accounts for is a step; hours in which nobody asked are
-- not.
local BACK_MS = 2000        -- steps back by less are ignored
local AHEAD_MS = 30000      -- and ahead: a call may have lain that long before it was run
local REMEMBER_MS = 5000    -- so old the newest time seen may be
local FORGET_MS = 86400000  -- hosts that were not heard of for so long

-- How far the clock was set since somebody last asked, in ms; 0 nearly always. `told` is
-- '<host> <ms of its monotonic clock>'.
local function stepped(key, told)
  local host, own = string.match(told or '', '^(%S+) (%d+)$')
  if not host then return 0 end
  local seen = redis.call('HMGET', key, 'last', host)
  local last, then_own, then_ms = tonumber(seen[1] or now_ms), nil, nil
  if seen[2] then then_own, then_ms = string.match(seen[2], '^(%d+) (%d+)$') end
  local due = last
  local elapsed = then_own and own - then_own or -1
  if elapsed >= 0 then due = math.max(then_ms + elapsed, last) end
  local step = 0
  if now_ms < last - BACK_MS or (elapsed >= 0 and now_ms > due + AHEAD_MS) then
    step = now_ms - due
    local all = redis.call('HGETALL', key)
    for i = 1, #all, 2 do
      local its, ours = string.match(all[i + 1], '^(%d+) (%d+)$')
      if its then redis.call('HSET', key, all[i], its .. ' ' .. int(ours + step)) end
    end
  end
  if not seen[2] then
    local all = redis.call('HGETALL', key)
    for i = 1, #all, 2 do
      local ours = string.match(all[i + 1], '^%d+ (%d+)$')
      if ours and now_ms - ours > FORGET_MS then redis.call('HDEL', key, all[i]) end
    end
  end
  if step ~= 0 or not seen[2] or now_ms - then_ms >= REMEMBER_MS then
    redis.call('HSET', key, 'last', int(step ~= 0 and now_ms or math.max(now_ms, last)),
      host, own .. ' ' .. int(now_ms))
  end
  return step
end
