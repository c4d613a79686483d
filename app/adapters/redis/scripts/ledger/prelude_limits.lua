-- What a scope has used, and what its limits leave of it. Adding 0 makes a number of a text for less
-- than half of what `tonumber` costs.

-- Windows -------------------------------------------------------------------------------------

-- The calendar day that holds the store's time, of those the caller sent (request_days.py), the
-- likeliest first; nil when none does.
local function today(days)
  for label, month, starts, ends, month_ends, keep, month_keep in
    string.gmatch(days, '(%S+) (%S+) (%d+) (%d+) (%d+) (%d+) (%d+)') do
    if now_ms >= starts + 0 and now_ms < ends + 0 then
      return {
        label = label, month = month, ends = ends + 0, month_ends = month_ends + 0,
        keep = keep, month_keep = month_keep,
      }
    end
  end
end

-- Of each scope in one window, as stored: '<images> <micros> <held images> <held micros>'; false
-- where nothing was counted.
local function read_packed(label, scope_keys)
  return redis.call('HMGET', K.window .. label, unpack(scope_keys))
end

local function write_packed(label, scope_keys, packed)
  local fields = {}
  for i = 1, #scope_keys do fields[2 * i - 1], fields[2 * i] = scope_keys[i], packed[i] end
  redis.call('HSET', K.window .. label, unpack(fields))
end

-- The four counters of one scope as texts, which count like numbers but do not compare like them.
local function split_packed(packed)
  return string.match(packed or '0 0 0 0', '^(%S+) (%S+) (%S+) (%S+)$')
end

-- One scope's counters as stored, with so much added to each.
local function add_to_packed(packed, images, micros, held_images, held_micros)
  local a, b, c, d = split_packed(packed)
  return string.format('%d %d %d %d', a + images, b + micros, c + held_images, d + held_micros)
end

-- The same as {images, micros, held_images, held_micros} of numbers.
local function read_window(label, scope_keys)
  local window = {}
  for i, packed in ipairs(read_packed(label, scope_keys)) do
    local images, micros, held_images, held_micros = split_packed(packed)
    window[i] = {
      images = images + 0, micros = micros + 0,
      held_images = held_images + 0, held_micros = held_micros + 0,
    }
  end
  return window
end

local function write_window(label, scope_keys, window)
  local packed = {}
  for i, sums in ipairs(window) do
    packed[i] = string.format('%d %d %d %d', sums.images, sums.micros, sums.held_images,
      sums.held_micros)
  end
  write_packed(label, scope_keys, packed)
end

-- Give a new window its end of life and list it for the audit.
local function expire_window(label, until_ms)
  if redis.call('PEXPIREAT', K.window .. label, until_ms, 'NX') == 1 then
    redis.call('ZREMRANGEBYSCORE', K.windows, '-inf', now_ms)
    redis.call('ZADD', K.windows, until_ms, label)
  end
end

-- Concurrency ---------------------------------------------------------------------------------

-- Milliseconds until the first of the running jobs should have ended, from the usual length of a
-- generation. One that runs longer than usual is expected after another fifth of it.
local function slot_wait_ms(scope_key)
  local typical = tonumber(redis.call('HGET', K.open, 'typical') or TYPICAL_MS)
  local wait = typical
  local ids = redis.call('ZRANGEBYSCORE', K.slots .. scope_key, '(' .. int(now_ms), '+inf',
    'LIMIT', 0, MAX_SLOTS_READ)
  for _, id in ipairs(ids) do
    local job = read_fields(K.job .. id, 'created', 'dispatched')
    local began = tonumber(job.dispatched or job.created or now_ms)
    wait = math.min(wait, math.max(typical - (now_ms - began), typical / 5))
  end
  return math.ceil(wait)
end

-- Rate limits (GCRA, burst = limit) -------------------------------------------------------------

-- Of each scope, microseconds until its rate is fully recovered; 0 where it has no such limit.
local function rates_spent_us(scope_keys, limits, kind, pace)
  local spent, asked, keys = {}, {}, {}
  for i = 1, #scope_keys do
    spent[i] = 0
    if limits[i][kind] then
      asked[#asked + 1] = i
      keys[#keys + 1] = pace .. scope_keys[i]
    end
  end
  if #keys == 0 then return spent end
  for n, stored in ipairs(redis.call('MGET', unpack(keys))) do
    local us = math.max((stored or 0) - now_us, 0)
    -- More than a minute is never spent: then the clock was set back.
    if us <= 61000000 then spent[asked[n]] = us end
  end
  return spent
end

-- Microseconds that one request takes.
local function emission_interval_us(limit)
  return math.max(math.floor(60000000 / limit), 1)
end

-- Count one request against every rate limit, all or nothing: `spent` is of `rates_spent_us` and is
-- brought up to date. Returns nil, or the index of the scope that refuses it and the seconds until it
-- would not.
local function count_request(scope_keys, limits, spent)
  local after, worst, wait = {}, nil, 0
  for i = 1, #scope_keys do
    local limit = limits[i].requests
    if limit == 0 then
      worst, wait = i, 60000000
    elseif limit then
      after[i] = spent[i] + emission_interval_us(limit)
      if after[i] - 60000000 > wait then worst, wait = i, after[i] - 60000000 end
    end
  end
  if worst then return worst, math.max(1, math.min(60, math.ceil(wait / 1000000))) end
  for i, us in pairs(after) do
    spent[i] = us
    redis.call('SET', K.pace .. scope_keys[i], now_us + us, 'PX', math.max(1, math.ceil(us / 1000)))
  end
end

-- Limits --------------------------------------------------------------------------------------

-- Whether any scope has a limit on images or money.
local function has_window_limits(limits)
  for i = 1, #limits do
    local limit = limits[i]
    if limit.images_day or limit.images_month or limit.micros_day or limit.micros_month then
      return true
    end
  end
  return false
end

-- Of each scope, the running jobs where their number is limited or `all` are asked for; else 0.
local function running_jobs(scope_keys, limits, all)
  local running, after = {}, '(' .. int(now_ms)
  for i = 1, #scope_keys do
    local counted = all or limits[i].concurrency
    running[i] = counted and redis.call('ZCOUNT', K.slots .. scope_keys[i], after, '+inf') or 0
  end
  return running
end

-- How the limits stand, as text that the caller unpacks when somebody asks (scope_set.py): the
-- seconds until the day and the month end, then of each scope the counters of both windows, the
-- microseconds until its rate is recovered, and its running jobs; `with_rates` adds more where there
-- is more. A window that is nil was not read, since no limit needs it.
local function limit_texts(day, scope_keys, in_day, in_month, spent, running)
  local texts = {
    int(math.ceil((day.ends - now_ms) / 1000)) .. ' ' .. int(math.ceil((day.month_ends - now_ms) / 1000)),
  }
  for i = 1, #scope_keys do
    texts[i + 1] = string.format('%s %s %d %d', in_day and in_day[i] or '0 0 0 0',
      in_month and in_month[i] or '0 0 0 0', spent[i], running[i])
  end
  return texts
end
