#!lua
-- Permits for the waiters of one process: a concurrency slot for each call, first come first served,
-- then a start within the rate. Starts are granted ahead of time, so that waiters go in order and wake
-- once.
-- KEYS [1] turns  ARGV [1] limits [2] [{job, calls, wait_ms (it may wait)} ...], oldest first
-- -> {traffic = {queued, busy, next_ms}, answers = {{status, wait_ms, burst} ...}}: 'granted' (start after `wait_ms`; `burst` calls
--    may start in one second, 0: all at once), 'queued', or 'late' (it would have to wait `wait_ms`)
local asks, answers, mine = cjson.decode(ARGV[2]), {}, {}

local function answer(status, wait_ms, burst)
  return { status = status, wait_ms = math.ceil(wait_ms), burst = burst or 0 }
end

local function grant_start(i)
  local id, calls = asks[i].job, asks[i].calls
  local windows = rate_windows()
  local at = tonumber(redis.call('ZSCORE', K.submits, id .. ':0') or earliest_start_ms(calls))
  if at - now_ms > asks[i].wait_ms then return answer('late', at - now_ms) end
  local burst = 0
  for _, window in ipairs(windows) do
    if window.ms == SECOND_MS then burst = window.most - window.floor end
  end
  if #windows > 0 then
    local ends = at
    for call = 0, calls - 1 do
      if burst > 0 then ends = at + math.floor(call / burst) * SECOND_MS end
      redis.call('ZADD', K.turns, int(ends), id .. ':' .. call)
      redis.call('ZADD', K.submits, int(ends), id .. ':' .. call)
    end
    trim_and_expire(K.turns, ends)
    trim_and_expire(K.submits, ends)
  end
  return answer('granted', math.max(at - now_ms, 0), burst)
end

local function slots_of(i)
  return math.min(asks[i].calls, limits.slots)
end

local function enqueue(i)
  local slots = slots_of(i)
  local member = slots .. ' ' .. asks[i].job
  if not redis.call('ZSCORE', K.queue, member) then
    local ms = expected_wait_ms(slots)
    if ms > asks[i].wait_ms then return answer('late', ms) end
    redis.call('ZADD', K.queue, int(now_us + i), member)
    redis.call('PEXPIRE', K.queue, int(limits.lease_ms + DAY_MS))
  end
  redis.call('ZADD', K.waiting, int(now_ms + WAITER_TTL_MS), member)
  redis.call('PEXPIRE', K.waiting, 2 * WAITER_TTL_MS + DAY_MS)
  mine[member] = i
  return answer('queued', 0)
end

local function grant_slots(slots, i)
  answers[i] = grant_start(i)
  if answers[i].status ~= 'granted' then return 0 end
  for slot = 0, slots - 1 do
    redis.call('ZADD', K.busy, int(now_ms + limits.lease_ms), asks[i].job .. ':' .. slot)
  end
  redis.call('PEXPIRE', K.busy, int(limits.lease_ms + DAY_MS))
  return slots
end

-- Where nobody waits and slots are free, nobody is put into the queue.
for i, ask in ipairs(asks) do
  if not limits.slots or redis.call('ZSCORE', K.busy, ask.job .. ':0') then
    answers[i] = grant_start(i)
  elseif redis.call('ZCARD', K.queue) == 0 and count_busy() + slots_of(i) <= limits.slots then
    grant_slots(slots_of(i), i)
  else
    answers[i] = enqueue(i)
  end
end
if limits.slots and count_queued() > 0 then
  local free = limits.slots - count_busy()
  for _, member in ipairs(free > 0 and redis.call('ZRANGE', K.queue, 0, free - 1) or {}) do
    local slots, i = tonumber(string.match(member, '^%d+')), mine[member]
    if slots > free then break end
    if i then
      slots = grant_slots(slots, i)
      redis.call('ZREM', K.queue, member)
      redis.call('ZREM', K.waiting, member)
    end
    free = free - slots
  end
end
for i, found in ipairs(answers) do answers[i] = named(found) end
return named({ traffic = permits_view(), answers = answers })
