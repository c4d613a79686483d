-- What a scope has used, and what its limits leave of it.

-- Windows -------------------------------------------------------------------------------------

-- The calendar day that holds the store's time, of those the caller sent (request_days.py), the
-- likeliest first; nil when none does.
local function today(days)
  for label, month, starts, ends, month_ends, keep, month_keep in
    string.gmatch(days, '(%S+) (%S+) (%d+) (%d+) (%d+) (%d+) (%d+)') do
    if now_ms >= tonumber(starts) and now_ms < tonumber(ends) then
      return {
        label = label, month = month, ends = tonumber(ends), month_ends = tonumber(month_ends),
        keep = tonumber(keep), month_keep = tonumber(month_keep),
      }
    end
  end
end

-- Of each scope in one window: {images, micros, held_images, held_micros}.
local function read_window(label, scope_keys)
  local window = {}
  for i, packed in ipairs(redis.call('HMGET', K.window .. label, unpack(scope_keys))) do
    local images, micros, held_images, held_micros =
      string.match(packed or '0 0 0 0', '^(%S+) (%S+) (%S+) (%S+)$')
    window[i] = {
      images = tonumber(images), micros = tonumber(micros),
      held_images = tonumber(held_images), held_micros = tonumber(held_micros),
    }
  end
  return window
end

local function write_window(label, scope_keys, window)
  local packed = {}
  for i, scope_key in ipairs(scope_keys) do
    local sums = window[i]
    packed[#packed + 1] = scope_key
    packed[#packed + 1] = string.format('%.0f %.0f %.0f %.0f', sums.images + 0, sums.micros + 0,
      sums.held_images + 0, sums.held_micros + 0)
  end
  redis.call('HSET', K.window .. label, unpack(packed))
end

-- Give a new window its end of life and list it for the audit.
local function expire_window(label, until_ms)
  if redis.call('PEXPIREAT', K.window .. label, int(until_ms), 'NX') == 1 then
    redis.call('ZREMRANGEBYSCORE', K.windows, '-inf', int(now_ms))
    redis.call('ZADD', K.windows, int(until_ms), label)
  end
end

-- Concurrency ---------------------------------------------------------------------------------

local function count_running(scope_key)
  return redis.call('ZCOUNT', K.slots .. scope_key, '(' .. int(now_ms), '+inf')
end

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

-- Microseconds until a scope's rate is fully recovered.
local function rate_spent_us(scope_key)
  local spent = math.max(tonumber(redis.call('GET', K.pace .. scope_key) or 0) - now_us, 0)
  -- More than a minute is never spent: then the clock was set back.
  return spent <= 61000000 and spent or 0
end

-- Microseconds that one request takes.
local function emission_interval_us(limit)
  return math.max(math.floor(60000000 / limit), 1)
end

-- Count one request against every rate limit, all or nothing. Returns nil, or the index of the scope
-- that refuses it and the seconds until it would not.
local function count_request(scope_keys, limits)
  local rates, worst, wait = {}, nil, 0
  for i, scope_key in ipairs(scope_keys) do
    local limit = limits[i].requests
    if limit == 0 then
      worst, wait = i, 60000000
    elseif limit then
      local after = rate_spent_us(scope_key) + emission_interval_us(limit)
      rates[scope_key] = after
      if after - 60000000 > wait then worst, wait = i, after - 60000000 end
    end
  end
  if worst then return worst, math.max(1, math.min(60, math.ceil(wait / 1000000))) end
  for scope_key, after in pairs(rates) do
    redis.call('SET', K.pace .. scope_key, int(now_us + after), 'PX', math.max(1, math.ceil(after / 1000)))
  end
end

-- Limits --------------------------------------------------------------------------------------

-- How each limit stands: {scope, kind, window, limit?, used, held, reset_s}, where `scope` is its
-- index. Unlimited ones only with `all`.
local function limit_rows(scope_keys, limits, day, windows, all)
  local rows = {}
  local day_s = math.ceil((day.ends - now_ms) / 1000)
  local month_s = math.ceil((day.month_ends - now_ms) / 1000)
  for i, scope_key in ipairs(scope_keys) do
    local limit, in_day, in_month = limits[i], windows[1][i], windows[2][i]
    local function add(kind, window, most, used, held, reset_s)
      rows[#rows + 1] = named({
        scope = i, kind = kind, window = window, limit = most, used = used, held = held,
        reset_s = reset_s,
      })
    end
    if limit.requests or all then
      local spent = limit.requests and rate_spent_us(scope_key) or 0
      local used = spent > 0 and math.ceil(spent / emission_interval_us(limit.requests)) or 0
      add('requests', 'minute', limit.requests, used, 0, math.ceil(spent / 1000000))
    end
    if limit.concurrency or all then
      add('concurrency', 'now', limit.concurrency, 0, count_running(scope_key), 0)
    end
    if limit.images_day or all then
      add('images', 'day', limit.images_day, in_day.images, in_day.held_images, day_s)
    end
    if limit.images_month or all then
      add('images', 'month', limit.images_month, in_month.images, in_month.held_images, month_s)
    end
    if limit.micros_day or all then
      add('money', 'day', limit.micros_day, in_day.micros, in_day.held_micros, day_s)
    end
    if limit.micros_month or all then
      add('money', 'month', limit.micros_month, in_month.micros, in_month.held_micros, month_s)
    end
  end
  return rows
end
