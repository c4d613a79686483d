-- Shared by the ledger's scripts. `K` names the keys (keyspace.py).
-- Every writing script starts with `if data_lost() then return reply('data_loss') end` and ends in
-- `reply(status, ...)`: {status, position, changes, ...}. ARGV[1] is the epoch the caller knows, ARGV[2]
-- the latest position it has seen, ARGV[3] what it asks for, as one JSON object, ARGV[4] days where it
-- needs them, ARGV[5] what its host's own clock shows. A position is
-- '<sequence number> <who rose it>'; changes are {kind, id, {field, value, ...}, seq_of it took or 0}
-- for the journal. A repeat tells again what the first one changed: its reply may have been lost.

local RETRY_JOIN_MS = 120000    -- so long after its end a job is handed to a retry
local IDEMPOTENCY_TTL_MS = 86400000    -- stored of an Idempotency-Key
local GRACE_MS = 60000        -- a concurrency slot outlives the job's due time by this
local TYPICAL_MS = 15000      -- how long a generation takes, until it is known
local MAX_SLOTS_READ = 100   -- so many count_running jobs say when a slot should be free
local MAX_POSITIONS = 1024            -- so many of the latest marks are kept
local MAX_CHANGES = 20000          -- so many of operators' changes lie out for the gateways to copy
local HOUR_MS = 3600000
local REFUSAL_CODES = { content_policy_violation = true, upstream_rejected = true }
local OPEN = { R = true, D = true, U = true }
local position, changes = '0', {}
local apply_clock_step

local function reply(status, ...)
  return { status, position, changes, ... }
end

local function seq_of(of)
  return tonumber(string.match(of, '^%d+'))
end

-- Has the store lost what the caller knows? Its epoch is gone, its sequence is lower (an old copy),
-- or a seq_of is somebody else's (a copy that went on without what the caller saw). Then everybody
-- refuses until the books are rebuilt. Another epoch is the caller's own mistake as likely as not.
local function data_lost()
  local stored = redis.call('MGET', K.epoch, K.seq, K.suspect)
  local seq, known = tonumber(stored[2] or 0), seq_of(ARGV[2])
  local trail = redis.call('HMGET', K.trail, known % MAX_POSITIONS, seq % MAX_POSITIONS)
  position = trail[2] or int(seq)
  if stored[3] then return true end
  local lost = not stored[1]
  if stored[1] == ARGV[1] then
    lost = seq < known or (trail[1] and seq_of(trail[1]) == known and trail[1] ~= ARGV[2])
  end
  if lost then redis.call('SET', K.suspect, ARGV[1]) end
  if lost or stored[1] ~= ARGV[1] then return true end
  apply_clock_step()
  return false
end

-- One more change that nobody may forget; `who` made it. Its seq_of.
local function next_seq(who)
  local seq = redis.call('INCR', K.seq)
  position = int(seq) .. ' ' .. who
  redis.call('HSET', K.trail, seq % MAX_POSITIONS, position)
  return seq
end

local function emit_change(kind, id, fields, seq)
  changes[#changes + 1] = { kind, id, fields, tonumber(seq or 0) }
end

-- The same for what an operator changes, perhaps from a machine whose journal nobody keeps: it is
-- also laid out for every gateway to copy into its own.
local function publish_change(kind, id, fields, seq)
  emit_change(kind, id, fields, seq)
  redis.call('XADD', K.changes, 'MAXLEN', '~', MAX_CHANGES, '*', 'epoch', ARGV[1], 'mark', position,
    'kind', kind, 'id', id, 'seq', int(seq), 'fields', cjson.encode(fields))
end

-- Tell an entry once more; `place` is '<entry id> <number>'.
local function emit_entry(place)
  local id, seq = string.match(place, '^(%S+) (%d+)$')
  local found = redis.call('XRANGE', K.stream, id, id)[1]
  if found then emit_change('entry', id, found[2], seq) end
  return id
end

-- Fields of a job, in the store and in the journal.
local function write_job(id, ...)
  redis.call('HSET', K.job .. id, ...)
  emit_change('job', id, { ... })
end

-- Fields of a hash as a table; missing ones are nil.
local function read_fields(key, ...)
  local fields, record = { ... }, {}
  for i, value in ipairs(redis.call('HMGET', key, ...)) do
    if value then record[fields[i]] = value end
  end
  return record
end

local function record(id)
  return redis.call('HGETALL', K.job .. id)
end

-- All fields of a hash as a table.
local function all(key)
  local flat, fields = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
  return fields
end

-- The scope_keys of the books a job is written in. `house` is last.
local function scope_keys_of(job)
  local scope_keys = { 'key:' .. job.key, 'user:' .. job.user }
  if job.team then scope_keys[3] = 'team:' .. job.team end
  scope_keys[#scope_keys + 1] = 'house'
  return scope_keys
end

-- Windows -------------------------------------------------------------------------------------

-- The calendar day that holds the store's time, of those the caller sent; nil when none does.
local function today(days)
  for _, day in ipairs(days) do
    if now_ms >= day.starts and now_ms < day.ends then return day end
  end
end

-- Each scope_key's {images, micros, held images, held micros} in one window.
local function read_window(label, scope_keys)
  local window = {}
  for i, packed in ipairs(redis.call('HMGET', K.window .. label, unpack(scope_keys))) do
    local a, b, c, d = string.match(packed or '0 0 0 0', '^(%S+) (%S+) (%S+) (%S+)$')
    window[i] = { tonumber(a), tonumber(b), tonumber(c), tonumber(d) }
  end
  return window
end

local function write_window(label, scope_keys, window)
  local packed = {}
  for i, scope_key in ipairs(scope_keys) do
    local row = window[i]
    packed[#packed + 1] = scope_key
    packed[#packed + 1] =
      string.format('%.0f %.0f %.0f %.0f', row[1] + 0, row[2] + 0, row[3] + 0, row[4] + 0)
  end
  redis.call('HSET', K.window .. label, unpack(packed))
end

-- Give a new window its end of stored and list it for the audit.
local function expire_window(label, until_ms)
  if redis.call('PEXPIREAT', K.window .. label, int(until_ms), 'NX') == 1 then
    redis.call('ZREMRANGEBYSCORE', K.windows, '-inf', int(now_ms))
    redis.call('ZADD', K.windows, int(until_ms), label)
  end
end

-- Due times and concurrency -------------------------------------------------------------------

-- The one due time of an open job, and with it the stored of its concurrency slots. A job in U has
-- answered its caller and holds none.
local function schedule(id, job, at_ms)
  redis.call('ZADD', K.due, int(at_ms), id)
  if job.state == 'U' then return end
  for _, scope_key in ipairs(scope_keys_of(job)) do
    redis.call('ZADD', K.slots .. scope_key, int(at_ms + GRACE_MS), id)
  end
end

-- How many parts of a job the provider can still be asked for.
local function count_polls(id, parts)
  local fields, polls = {}, 0
  for _ in string.gmatch(parts, '%S+') do
    local index = #fields / 2
    fields[#fields + 1] = 'upstream:' .. index
    fields[#fields + 1] = 'result:' .. index
  end
  local values = redis.call('HMGET', K.job .. id, unpack(fields))
  for i = 1, #values, 2 do
    if values[i] and not values[i + 1] then polls = polls + 1 end
  end
  return polls
end

-- A user's list of jobs lives as long as the longest of them.
local function extend_job_list(user, ms)
  local key, ttl = K.jobs .. user, int(math.max(ms, IDEMPOTENCY_TTL_MS))
  for _, when in ipairs({ 'NX', 'GT' }) do redis.call('PEXPIRE', key, ttl, when) end
end

-- A job is over: how long it can be read_fields (with pictures: as long as these are kept) and dedup.
local function expire_ended_job(id, job, ask)
  local shown = redis.call('HGET', K.job .. id, 'status') == 'completed'
  local lives = shown and math.max(ask.task_ms, ask.image_ms) or ask.task_ms
  local replay = job.replay and redis.call('PTTL', K.replay .. job.replay) or 0
  redis.call('PEXPIRE', K.job .. id, int(math.max(lives, replay, RETRY_JOIN_MS)))
  extend_job_list(job.user, lives)
  local attempts = K.attempt .. job.attempt
  if redis.call('ZCARD', attempts) == 1 then redis.call('PEXPIRE', attempts, RETRY_JOIN_MS) end
end

-- After a step of the clock all that waits for its time waits as long as before: due times and
-- slots move along, and a job's time at the provider is counted without the step (`shift`).
function apply_clock_step()
  local step = clock_step(K.clock, ARGV[5])
  if step == 0 then return end
  local due = redis.call('ZRANGE', K.due, 0, -1, 'WITHSCORES')
  for i = 1, #due, 2 do
    local id, job = due[i], read_fields(K.job .. due[i], 'state', 'key', 'user', 'team', 'dispatched')
    if job.state then
      schedule(id, job, due[i + 1] + step)
      if job.dispatched then redis.call('HINCRBY', K.job .. id, 'shift', int(step)) end
    end
  end
  local collecting = redis.call('ZRANGE', K.collect, 0, -1, 'WITHSCORES')
  for i = 1, #collecting, 2 do
    redis.call('ZADD', K.collect, int(collecting[i + 1] + step), collecting[i])
  end
end

local function count_running(scope_key)
  return redis.call('ZCOUNT', K.slots .. scope_key, '(' .. int(now_ms), '+inf')
end

-- Milliseconds until the first of the count_running jobs should have ended, going by how long generations
-- take. One that takes longer than usual is asked for again after a fifth of that.
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

-- Learn how long generations take from one that was dispatched at `began`.
local function update_typical_ms(began)
  local took = math.min(math.max(now_ms - tonumber(began), 0), 600000)
  local before = tonumber(redis.call('HGET', K.open, 'typical') or took)
  redis.call('HSET', K.open, 'typical', int(before + (took - before) / 10))
end

-- Pace (GCRA, burst = limit): microseconds until fully recovered, and those one request takes.
local function rate_spent_us(scope_key)
  local spent = math.max(tonumber(redis.call('GET', K.pace .. scope_key) or 0) - now_us, 0)
  -- More than a whole minute is never spent: the clock was set back.
  return spent <= 61000000 and spent or 0
end

local function emission_interval_us(limit)
  return math.max(math.floor(60000000 / limit), 1)
end

-- Count one request against every pace, all or nothing: the scope_key that refuses it and the seconds
-- until it would not, or nil.
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

-- Standing ------------------------------------------------------------------------------------

-- Rows {scope_key, meter, window, limit or false, used, held, seconds to reset} of every scope_key;
-- only the limited ones unless `all`.
local function limit_rows(scope_keys, limits, day, windows, all)
  local rows = {}
  local function row(...) rows[#rows + 1] = { ... } end
  local day_s = math.ceil((day.ends - now_ms) / 1000)
  local month_s = math.ceil((day.month_ends - now_ms) / 1000)
  for i, scope_key in ipairs(scope_keys) do
    local limit, d, m = limits[i], windows[1][i], windows[2][i]
    if limit.requests or all then
      local spent = limit.requests and rate_spent_us(scope_key) or 0
      local used = spent > 0 and math.ceil(spent / emission_interval_us(limit.requests)) or 0
      row(i, 'requests', 'minute', limit.requests or false, used, 0, math.ceil(spent / 1000000))
    end
    if limit.concurrency or all then
      row(i, 'concurrency', 'now', limit.concurrency or false, 0, count_running(scope_key), 0)
    end
    if limit.images_day or all then
      row(i, 'images', 'day', limit.images_day or false, d[1], d[3], day_s)
    end
    if limit.images_month or all then
      row(i, 'images', 'month', limit.images_month or false, m[1], m[3], month_s)
    end
    if limit.micros_day or all then
      row(i, 'money', 'day', limit.micros_day or false, d[2], d[4], day_s)
    end
    if limit.micros_month or all then
      row(i, 'money', 'month', limit.micros_month or false, m[2], m[4], month_s)
    end
  end
  return rows
end
