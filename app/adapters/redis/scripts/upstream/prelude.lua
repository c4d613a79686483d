-- Shared by the upstream limiter's scripts. ARGV[1] is what the provider grants this deployment, as
-- JSON: {rpm?, burst?, slots?, lease_ms, step_ms, probe_ms}; the last of ARGV is the host's clock stamp.

local MINUTE_MS = 61000             -- the provider counts a request when it arrives, up to 1 s later
local SECOND_MS = 1500
local WAITER_TTL_MS = 3000          -- a silent waiter keeps its position in the queue for so long
local DEFAULT_SLOT_HELD_MS = 10000  -- assumed time a slot is held until one was measured
local MIN_RPM = 6                   -- throttling goes no lower
local MIN_USUAL_RPM = 240           -- assumed usual rate where fewer requests were sent
local BREAKER_THRESHOLD = 3         -- refusals of key or balance in a row that open the breaker
local MAX_PROBE_GAP_MS = 60000
local DAY_MS = 86400000             -- keys outlive their content by this: a clock may be set ahead
local limits = cjson.decode(ARGV[1])

-- What a script has read and not changed since is not asked for again.
local known_health, known_windows, is_busy_trimmed, is_queue_trimmed

local function health()
  if known_health then return known_health end
  known_health = {}
  local flat = redis.call('HGETALL', K.health)
  for i = 1, #flat, 2 do known_health[flat[i]] = flat[i + 1] end
  return known_health
end

-- 'HSET' fields and values, or 'HDEL' fields.
local function change_health(command, ...)
  redis.call(command, K.health, ...)
  known_health, known_windows = nil, nil
end

local function apply_clock_step()
  local step = clock_step(K.upstream_clock, ARGV[#ARGV])
  if step == 0 then return end
  for key, unit in pairs({
    [K.busy] = 1, [K.turns] = 1, [K.submits] = 1, [K.waiting] = 1, [K.queue] = 1000,
  }) do
    local rows = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for i = 1, #rows, 2 do
      local member, score = rows[i], rows[i + 1]
      redis.call('ZADD', key, int(score + step * unit), member)
    end
  end
  local h = health()
  for _, field in ipairs({ 'until', 'next', 'failed' }) do
    if h[field] then change_health('HSET', field, int(h[field] + step)) end
  end
end
apply_clock_step()

-- Rate ----------------------------------------------------------------------------------------

-- When the pause after a 429 ends; the requests a minute allowed from then on (nil: unthrottled), and
-- the usual rate. The allowed rate rises by a tenth of the usual one in each step.
local function throttle()
  local h = health()
  local ends = tonumber(h['until'] or 0)
  if not h.cut then return ends end
  local usual = limits.rpm or tonumber(h.usual)
  local steps = math.floor(math.max(now_ms - ends, 0) / limits.step_ms)
  local rate = h.cut + steps * usual / 10
  if rate >= usual then return ends end
  return ends, rate, usual
end

-- Every limit as {ms, most (requests in so many ms), floor (of these, kept for polls)}.
local function rate_windows()
  if known_windows then return known_windows end
  local list = {}
  local function add(ms, most)
    local floor = math.min(math.max(math.floor(most / 4), 1), most - 1)
    list[#list + 1] = { ms = ms, most = most, floor = floor }
  end
  local _, rate = throttle()
  -- A limit per second alone implies one per minute, of which polls get their share.
  local rpm = limits.rpm or (limits.burst and 60 * limits.burst)
  if rpm then add(MINUTE_MS, rpm) end
  if limits.burst then add(SECOND_MS, limits.burst) end
  if rate then
    local most = math.max(math.ceil(rate / 6), 2)
    add(most * 60000 / rate, most)
  end
  known_windows = list
  return list
end

-- When so many calls of one job may start: after all that were granted before. Calls beyond what a
-- window can ever hold are not waited for.
local function earliest_start_ms(calls)
  local windows = rate_windows()
  local last = redis.call('ZREVRANGE', K.submits, 0, 0, 'WITHSCORES')[2]
  local start = math.max(now_ms, (throttle()), tonumber(last or 0))
  for _, window in ipairs(windows) do
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

-- Concurrency slots ---------------------------------------------------------------------------

local function count_busy()
  if not is_busy_trimmed then redis.call('ZREMRANGEBYSCORE', K.busy, '-inf', int(now_ms)) end
  is_busy_trimmed = true
  return redis.call('ZCARD', K.busy)
end

-- Jobs in the queue, without those whose process fell silent.
local function count_queued()
  local silent = is_queue_trimmed and {} or redis.call('ZRANGEBYSCORE', K.waiting, '-inf', int(now_ms))
  is_queue_trimmed = true
  for _, member in ipairs(silent) do
    redis.call('ZREM', K.queue, member)
    redis.call('ZREM', K.waiting, member)
  end
  return redis.call('ZCARD', K.queue)
end

-- How long a slot is held: the usual time, or the age of those held now where that is more.
local function slot_held_ms()
  local usual = tonumber(health().held or DEFAULT_SLOT_HELD_MS)
  local middle = math.floor(redis.call('ZCARD', K.busy) / 2)
  local lapses = redis.call('ZRANGE', K.busy, middle, middle, 'WITHSCORES')[2]
  return math.max(usual, lapses and limits.lease_ms - (lapses - now_ms) or 0)
end

-- How long until so many more slots should be free.
local function expected_wait_ms(slots)
  local short = count_busy() + count_queued() + slots - limits.slots
  return math.max(short, 0) * slot_held_ms() / limits.slots
end

-- Requests of all processes in the last minute, by the latest report of each.
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

-- How the traffic stands: {queued (jobs), busy (slots), held_ms (usual time a slot is held), next_ms (to
-- the next start), pause_ms (left), share (of the usual rate, in thousandths), refused (code of an open
-- breaker, or ''), fails (refusals in a row), probe_ms (to the next probe)}.
local function traffic_view()
  local ends, rate, usual = throttle()
  local h = health()
  local fails = tonumber(h.fails or 0)
  return named({
    queued = count_queued(), busy = count_busy(), held_ms = slot_held_ms(),
    next_ms = earliest_start_ms(1) - now_ms, pause_ms = math.max(ends - now_ms, 0),
    share = rate and math.floor(1000 * rate / usual) or 1000,
    refused = fails >= BREAKER_THRESHOLD and h.code or '', fails = fails,
    probe_ms = math.max((h.next or 0) - now_ms, 0),
  })
end

-- The part of it that permits change: {queued, busy, next_ms}. The rest is as the process last heard.
local function permits_view()
  return named({
    queued = count_queued(), busy = count_busy(), next_ms = earliest_start_ms(1) - now_ms,
  })
end
