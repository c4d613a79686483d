#!lua
-- Turns at the provider for the waiters of one process: a place each call, first come first
-- served, then a start within the rate. Starts are given ahead of time, so that waiters go in order
-- and wake once.
-- KEYS [1] turns  ARGV [1] limits [2] [[job id, calls, ms it may wait] ...], oldest first
-- -> {view, {'granted', ms to wait first, calls that may start in one second or 0}
--           | {'queued', 0} | {'late', ms it would be} ...}
local asks, answers, mine = cjson.decode(ARGV[2]), {}, {}

local function start(i)
  local id, calls, wait_ms = unpack(asks[i])
  local list = windows()
  local at = tonumber(redis.call('ZSCORE', K.submits, id .. ':0') or earliest(calls))
  if at - now_ms > wait_ms then return { 'late', math.ceil(at - now_ms) } end
  local abreast = 0
  for _, window in ipairs(list) do
    if window.ms == SECOND_MS then abreast = window.most - window.floor end
  end
  if #list > 0 then
    local ends = at
    for call = 0, calls - 1 do
      if abreast > 0 then ends = at + math.floor(call / abreast) * SECOND_MS end
      redis.call('ZADD', K.turns, int(ends), id .. ':' .. call)
      redis.call('ZADD', K.submits, int(ends), id .. ':' .. call)
    end
    keep(K.turns, ends)
    keep(K.submits, ends)
  end
  return { 'granted', math.ceil(math.max(at - now_ms, 0)), abreast }
end

local function line_up(i)
  local id, calls, wait_ms = unpack(asks[i])
  local places = math.min(calls, limits.places)
  local member = places .. ' ' .. id
  if not redis.call('ZSCORE', K.queue, member) then
    local ms = expected(places)
    if ms > wait_ms then return { 'late', math.ceil(ms) } end
    redis.call('ZADD', K.queue, int(now_us + i), member)
    redis.call('PEXPIRE', K.queue, int(limits.lease_ms + DAY_MS))
  end
  redis.call('ZADD', K.waiting, int(now_ms + LAPSE_MS), member)
  redis.call('PEXPIRE', K.waiting, 2 * LAPSE_MS + DAY_MS)
  mine[member] = i
  return { 'queued', 0 }
end

local function seat(member, places, i)
  local answer = start(i)
  answers[i] = answer
  redis.call('ZREM', K.queue, member)
  redis.call('ZREM', K.waiting, member)
  if answer[1] ~= 'granted' then return 0 end
  for place = 0, places - 1 do
    redis.call('ZADD', K.busy, int(now_ms + limits.lease_ms), asks[i][1] .. ':' .. place)
  end
  redis.call('PEXPIRE', K.busy, int(limits.lease_ms + DAY_MS))
  return places
end

for i, ask in ipairs(asks) do
  if limits.places and not redis.call('ZSCORE', K.busy, ask[1] .. ':0') then
    answers[i] = line_up(i)
  else
    answers[i] = start(i)
  end
end
if limits.places then
  queued()
  local free = limits.places - taken()
  for _, member in ipairs(free > 0 and redis.call('ZRANGE', K.queue, 0, free - 1) or {}) do
    local places = tonumber(string.match(member, '^%d+'))
    if places > free then break end
    free = free - (mine[member] and seat(member, places, mine[member]) or places)
  end
end
return { view(), unpack(answers) }
