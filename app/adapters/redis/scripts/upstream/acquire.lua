#!lua
-- Turns at the provider for the waiters of one process: a place each call, first come first
-- served, then a grant_start within the rate. Starts are given ahead of time, so that waiters go in order
-- and wake once.
-- KEYS [1] turns  ARGV [1] limits [2] [[job id, calls, ms it may wait] ...], oldest first
-- -> {traffic_view, {'granted', ms to wait first, calls that may grant_start in one second or 0}
--           | {'queued', 0} | {'late', ms it would be} ...}
local asks, answers, mine = cjson.decode(ARGV[2]), {}, {}

local function grant_start(i)
  local id, calls, wait_ms = unpack(asks[i])
  local list = rate_windows()
  local at = tonumber(redis.call('ZSCORE', K.submits, id .. ':0') or earliest_start_ms(calls))
  if at - now_ms > wait_ms then return { 'late', math.ceil(at - now_ms) } end
  local burst = 0
  for _, window in ipairs(list) do
    if window.ms == SECOND_MS then burst = window.most - window.floor end
  end
  if #list > 0 then
    local ends = at
    for call = 0, calls - 1 do
      if burst > 0 then ends = at + math.floor(call / burst) * SECOND_MS end
      redis.call('ZADD', K.turns, int(ends), id .. ':' .. call)
      redis.call('ZADD', K.submits, int(ends), id .. ':' .. call)
    end
    trim_and_expire(K.turns, ends)
    trim_and_expire(K.submits, ends)
  end
  return { 'granted', math.ceil(math.max(at - now_ms, 0)), burst }
end

local function enqueue(i)
  local id, calls, wait_ms = unpack(asks[i])
  local slots = math.min(calls, limits.slots)
  local member = slots .. ' ' .. id
  if not redis.call('ZSCORE', K.queue, member) then
    local ms = expected_wait_ms(slots)
    if ms > wait_ms then return { 'late', math.ceil(ms) } end
    redis.call('ZADD', K.queue, int(now_us + i), member)
    redis.call('PEXPIRE', K.queue, int(limits.lease_ms + DAY_MS))
  end
  redis.call('ZADD', K.waiting, int(now_ms + WAITER_TTL_MS), member)
  redis.call('PEXPIRE', K.waiting, 2 * WAITER_TTL_MS + DAY_MS)
  mine[member] = i
  return { 'queued', 0 }
end

local function grant_slots(member, slots, i)
  local answer = grant_start(i)
  answers[i] = answer
  redis.call('ZREM', K.queue, member)
  redis.call('ZREM', K.waiting, member)
  if answer[1] ~= 'granted' then return 0 end
  for place = 0, slots - 1 do
    redis.call('ZADD', K.busy, int(now_ms + limits.lease_ms), asks[i][1] .. ':' .. place)
  end
  redis.call('PEXPIRE', K.busy, int(limits.lease_ms + DAY_MS))
  return slots
end

for i, ask in ipairs(asks) do
  if limits.slots and not redis.call('ZSCORE', K.busy, ask[1] .. ':0') then
    answers[i] = enqueue(i)
  else
    answers[i] = grant_start(i)
  end
end
if limits.slots then
  count_queued()
  local free = limits.slots - count_busy()
  for _, member in ipairs(free > 0 and redis.call('ZRANGE', K.queue, 0, free - 1) or {}) do
    local slots = tonumber(string.match(member, '^%d+'))
    if slots > free then break end
    free = free - (mine[member] and grant_slots(member, slots, mine[member]) or slots)
  end
end
return { traffic_view(), unpack(answers) }
