
-- Shared by the governor's scripts. ARGV[1] is what this deployment knows of its provider, as JSON:
-- {rpm?, burst?, slots?, lease_ms, step_ms, probe_ms}; the last one of ARGV is what this host's own
-- clock shows. `K` names the keys (keyspace.py).

local MINUTE_MS = 61000     -- requests are counted where they arrive, up to a second later
local SECOND_MS = 1500
local WAITER_TTL_MS = 3000       -- so long a waiter keeps its place in the queue unheard
local DEFAULT_SLOT_HELD_MS = 10000    -- how long a place is held, until it is known
local MIN_RPM = 6           -- requests a minute that no throttling goes below
local MIN_USUAL_RPM = 240           -- so many a minute are usual where fewer were sent
local BREAKER_THRESHOLD = 3              -- refusals of key or balance in a row that open the breaker
local MAX_PROBE_GAP_MS = 60000
local DAY_MS = 86400000     -- keys outlive what is in them by this: a clock may be set ahead
local limits = cjson.decode(ARGV[1])

local function health(...)
  local fields, found = { ... }, {}
  for i, value in ipairs(redis.call('HMGET', K.health, ...)) do
    if value then found[fields[i]] = value end
  end
  return found
end

local function apply_clock_step()
  local step = clock_step(K.upstream_clock, ARGV[#ARGV])
  if step == 0 then return end
  for key, unit in pairs({
    [K.busy] = 1, [K.turns] = 1, [K.submits] = 1, [K.waiting] = 1, [K.queue] = 1000,
  }) do
    local rows = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for i = 1, #rows, 2 do redis.call('ZADD', key, int(rows[i + 1] + step * unit), rows[i]) end
  end
  for field, at in pairs(health('until', 'next', 'failed')) do
    redis.call('HSET', K.health, field, int(at + step))
  end
end
apply_clock_step()

-- Pace ----------------------------------------------------------------------------------------

-- When the pause after a 429 ends; requests a minute from then on (nil: as many as ever), and
-- what is usual. They rise by a tenth of that in each step.
local function throttle()
  local h = health('until', 'cut', 'usual')
  local ends = tonumber(h['until'] or 0)
  if not h.cut then return ends end
  local usual = limits.rpm or tonumber(h.usual)
  local steps = math.floor(math.max(now_ms - ends, 0) / limits.step_ms)
  local rate = h.cut + steps * usual / 10
  if rate >= usual then return ends end
  return ends, rate, usual
end

-- Every limit as {ms, most requests in so many ms, of which polls may always have floor}.
local function rate_windows()
  local list = {}
  local function add(ms, most)
    local floor = math.min(math.max(math.floor(most / 4), 1), most - 1)
    list[#list + 1] = { ms = ms, most = most, floor = floor }
  end
  local _, rate = throttle()
  -- A burst alone says enough about a minute to trim_and_expire some of it for polls.
  local rpm = limits.rpm or (limits.burst and 60 * limits.burst)
  if rpm then add(MINUTE_MS, rpm) end
  if limits.burst then add(SECOND_MS, limits.burst) end
  if rate then
    local most = math.max(math.ceil(rate / 6), 2)
    add(most * 60000 / rate, most)
  end
  return list
end

-- When so many calls of one job may start: after all that were granted before them. Calls beyond
-- what a window ever lets through are not waited for.
local function earliest_start_ms(calls)
  local last = redis.call('ZREVRANGE', K.submits, 0, 0, 'WITHSCORES')[2]
  local start = math.max(now_ms, (throttle()), tonumber(last or 0))
  for _, window in ipairs(rate_windows()) do
    local own = window.most - window.floor
    for key, most in pairs({ [K.submits] = own, [K.turns] = window.most }) do
      local nth = most - math.min(calls, own)
      local blocking = redis.call('ZREVRANGE', key, nth, nth, 'WITHSCORES')[2]
      if blocking then start = math.max(start, blocking + window.ms) end
    end
  end
  return start
end

local function trim_and_expire(key, until_ms)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', int(now_ms - MINUTE_MS))
  redis.call('PEXPIRE', key, int(until_ms - now_ms + MINUTE_MS + DAY_MS))
end

-- Places --------------------------------------------------------------------------------------

local function count_busy()
  redis.call('ZREMRANGEBYSCORE', K.busy, '-inf', int(now_ms))
  return redis.call('ZCARD', K.busy)
end

-- Jobs in line; those whose process fell silent leave it.
local function count_queued()
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', K.waiting, '-inf', int(now_ms))) do
    redis.call('ZREM', K.queue, member)
    redis.call('ZREM', K.waiting, member)
  end
  return redis.call('ZCARD', K.queue)
end

-- How long a place is held: what was usual, or the age of those held now where that is more.
local function slot_held_ms()
  local usual = tonumber(health('held').held or DEFAULT_SLOT_HELD_MS)
  local middle = math.floor(redis.call('ZCARD', K.busy) / 2)
  local lapses = redis.call('ZRANGE', K.busy, middle, middle, 'WITHSCORES')[2]
  return math.max(usual, lapses and limits.lease_ms - (lapses - now_ms) or 0)
end

-- How long until so many more slots are free, going by how long slots are held.
local function expected_wait_ms(slots)
  local short = count_busy() + count_queued() + slots - limits.slots
  return math.max(short, 0) * slot_held_ms() / limits.slots
end

-- Requests of all processes in the last minute, as each last report.
local function recent_requests()
  local sum = 0
  for _, report in ipairs(redis.call('HVALS', K.minutes)) do
    local count, at = string.match(report, '^(%d+) (%d+)$')
    if now_ms - at < 10000 then sum = sum + count end
  end
  return sum
end

local function report_requests(process, count)
  redis.call('HSET', K.minutes, process, int(count) .. ' ' .. int(now_ms))
  redis.call('PEXPIRE', K.minutes, MINUTE_MS)
end

-- {count_queued, busy, ms a place is held, ms to the next start, ms of pause left, share of the usual
--  rate in thousandths, code of an open breaker or '', refusals in a row, ms to the next probe}
local function traffic_view()
  local ends, rate, usual = throttle()
  local h = health('fails', 'code', 'next')
  local fails = tonumber(h.fails or 0)
  return {
    count_queued(), count_busy(), slot_held_ms(), earliest_start_ms(1) - now_ms, math.max(ends - now_ms, 0),
    rate and math.floor(1000 * rate / usual) or 1000, fails >= BREAKER_THRESHOLD and h.code or '', fails,
    math.max((h.next or 0) - now_ms, 0),
  }
end
