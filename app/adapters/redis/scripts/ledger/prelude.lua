-- Shared by the ledger's scripts.
--
-- A writing script is called with ARGV [1] the epoch and [2] the latest position that the caller has
-- seen, [3] its request as one JSON object, [4] days where it needs them, [5] its host's clock stamp.
-- It opens with `if data_lost() then return fail(E.data_lost) end` and answers
-- `reply(status, fields)`: {status, position, changes, fields}.
-- * A position is '<sequence number> <id that raised it>'.
-- * Changes are for the caller's journal: {kind, id, {field, value ...}, sequence number or 0}. A
--   repeated call reports again what the first one changed, since its reply may have been lost.
-- * Headers name the status words with their fields, and the errors. `E.data_lost` is always one.
-- A record is a job's hash as {field, value ...}. An image id is '<part>.<index>'.

local RETRY_JOIN_MS = 120000         -- a retry can get an ended job's answer for so long
local IDEMPOTENCY_TTL_MS = 86400000
local GRACE_MS = 60000               -- a concurrency slot outlives its job's due time by this
local TYPICAL_MS = 15000             -- assumed length of a generation until one was measured
local MAX_SLOTS_READ = 100           -- running jobs looked at to guess when a slot becomes free
local MAX_POSITIONS = 1024           -- latest positions kept
local MAX_CHANGES = 20000            -- operators' changes kept for the gateways to copy
local HOUR_MS = 3600000
local EXTEND_AHEAD_MS = 60000        -- so much longer than needed: not extended by every job
local REFUSAL_CODES = { content_policy_violation = true, upstream_rejected = true }
local OPEN = { R = true, D = true, U = true }
local changes = {}
local apply_clock_step

local function reply(status, fields)
  return { status, position, changes, named(fields or {}) }
end

-- Which version of the data this store holds.
local function data_version()
  return tonumber(redis.call('GET', K.data_version) or FIRST_DATA_VERSION)
end

-- Where a quarantined ledger was moved to; nil when it is quarantined for another reason.
local function moved_to(quarantined)
  return quarantined and string.match(quarantined, '^moved (.+)$')
end

local function seq_of(text)
  return string.match(text, '^%d+') + 0
end

-- Has the store lost what the caller knows? Its epoch is gone, its sequence is lower (an old copy),
-- or the caller's position was raised by another change (a copy that went on without what the caller
-- saw). Then every call is refused until the ledger is rebuilt. Another epoch is refused without
-- that: the mistake may be the caller's own.
local function data_lost()
  local stored = redis.call('MGET', K.epoch, K.seq, K.suspect)
  local epoch, seq, quarantined = stored[1], (stored[2] or 0) + 0, stored[3]
  local known_seq = seq_of(ARGV[2])
  local trail = redis.call('HMGET', K.trail, known_seq % MAX_POSITIONS, seq % MAX_POSITIONS)
  local theirs = trail[1]
  position = trail[2] or int(seq)
  if quarantined then return true end
  local lost = not epoch
  if epoch == ARGV[1] then
    lost = seq < known_seq or (theirs and theirs ~= ARGV[2] and seq_of(theirs) == known_seq)
  end
  if lost then redis.call('SET', K.suspect, ARGV[1]) end
  if lost or epoch ~= ARGV[1] then return true end
  apply_clock_step()
  return false
end

-- The sequence number of one more change that must never be lost; `id` names what raised it.
local function next_seq(id)
  local seq = redis.call('INCR', K.seq)
  position = int(seq) .. ' ' .. id
  redis.call('HSET', K.trail, seq % MAX_POSITIONS, position)
  return seq
end

local function emit_change(kind, id, fields, seq)
  changes[#changes + 1] = { kind, id, fields, (seq or 0) + 0 }
end

-- Give the latest emitted change the sequence number it raised.
local function number_last_change(seq)
  changes[#changes][4] = seq
end

-- An operator's change, perhaps from a machine whose journal is not kept: every gateway copies it.
local function publish_change(kind, id, fields, seq)
  emit_change(kind, id, fields, seq)
  redis.call('XADD', K.changes, 'MAXLEN', '~', MAX_CHANGES, '*', 'epoch', ARGV[1], 'mark', position,
    'kind', kind, 'id', id, 'seq', int(seq), 'fields', cjson.encode(fields))
end

-- Emit an entry once more; `stored` is '<entry id> <sequence number>'.
local function emit_entry(stored)
  local id, seq = string.match(stored, '^(%S+) (%d+)$')
  local found = redis.call('XRANGE', K.stream, id, id)[1]
  if found then
    local fields = found[2]
    emit_change('entry', id, fields, seq)
  end
  return id
end

-- Fields of a job, in the store and in the journal.
local function write_job(id, ...)
  redis.call('HSET', K.job .. id, ...)
  emit_change('job', id, { ... })
end

-- Fields of a hash as a table; missing ones are nil.
local function read_fields(key, ...)
  local fields, values, found = { ... }, redis.call('HMGET', key, ...), {}
  for i = 1, #fields do
    if values[i] then found[fields[i]] = values[i] end
  end
  return found
end

local function record(id)
  return redis.call('HGETALL', K.job .. id)
end

local function all_fields(key)
  local flat, found = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do found[flat[i]] = flat[i + 1] end
  return found
end

-- Field, value ... of an entry about a job: what it shares with the job, then `more`, a list of
-- {field, value or nil}.
local function entry_of(id, kind, job, more)
  local entry = { 'kind', kind }
  local function put(field, value)
    if value then
      entry[#entry + 1] = field
      entry[#entry + 1] = value
    end
  end
  for _, field in ipairs({ 'key', 'user', 'team', 'model', 'size', 'quality', 'day', 'month', 'provider' }) do
    put(field, job[field])
  end
  put('job', id)
  put('attribution', job.counted_as or job.attribution)
  for _, pair in ipairs(more) do put(unpack(pair)) end
  return entry
end

local function append_entry(id, entry)
  local entry_id, seq = redis.call('XADD', K.stream, '*', unpack(entry)), next_seq(id)
  emit_change('entry', entry_id, entry, seq)
  return entry_id .. ' ' .. int(seq)
end

-- Where a job is counted. `house` is last.
local function scope_keys_of(job)
  local scope_keys = { 'key:' .. job.key, 'user:' .. job.user }
  if job.team then scope_keys[3] = 'team:' .. job.team end
  scope_keys[#scope_keys + 1] = 'house'
  return scope_keys
end

-- Due times and concurrency -------------------------------------------------------------------

-- Set the due time of an open job, and with it the end of its concurrency slots. A job in U has
-- answered its caller and holds no slot.
local function schedule(id, job, at_ms)
  redis.call('ZADD', K.due, at_ms, id)
  if job.state == 'U' then return end
  for _, scope_key in ipairs(scope_keys_of(job)) do
    redis.call('ZADD', K.slots .. scope_key, at_ms + GRACE_MS, id)
  end
end

-- Two providers may use one id for tasks of their own.
local function task_name(job, upstream_id)
  return job.provider and job.provider .. ' ' .. upstream_id or upstream_id
end

-- How many parts of a job the provider can still be asked for. `job` has all of its fields.
local function count_polls(job)
  local parts, polls = 0, 0
  for _ in string.gmatch(job.parts, '%S+') do
    if job['upstream:' .. parts] and not job['result:' .. parts] then polls = polls + 1 end
    parts = parts + 1
  end
  return polls
end

-- A user's list of jobs lives as long as the longest of them.
local function extend_job_list(user, ms)
  local key, ttl = K.jobs .. user, math.max(ms, IDEMPOTENCY_TTL_MS)
  if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, ttl + EXTEND_AHEAD_MS) end
end

-- Drop what only an open job needs: the pictures of its results are in `pictures` by now.
local function drop_details(id, job)
  local gone, parts = {}, 0
  local function drop(field)
    if job[field] then gone[#gone + 1] = field end
  end
  drop('claims')
  drop('shift')
  for _ in string.gmatch(job.parts, '%S+') do
    local part = int(parts)
    for _, field in ipairs({ 'result:', 'told:', 'doubt:', 'denied:' }) do drop(field .. part) end
    parts = parts + 1
  end
  if gone[1] then redis.call('HDEL', K.job .. id, unpack(gone)) end
end

-- Set how long an ended job, now of this status, can be read (with pictures: as long as these are
-- kept) and repeated. `job` has all of its fields.
local function expire_ended_job(id, job, ask, status)
  drop_details(id, job)
  local ttl = status == 'completed' and math.max(ask.task_ms, ask.image_ms) or ask.task_ms
  local replay = job.replay and redis.call('PTTL', K.replay .. job.replay) or 0
  redis.call('PEXPIRE', K.job .. id, math.max(ttl, replay, RETRY_JOIN_MS))
  extend_job_list(job.user, ttl)
  local attempts = K.attempt .. job.attempt
  if redis.call('ZCARD', attempts) == 1 then redis.call('PEXPIRE', attempts, RETRY_JOIN_MS) end
end

-- A page of a sorted set: {where the next begins ('0' after the last), {member, score ...}}. The store's
-- user may be one of an earlier version, which may not scan: then the page is all of it.
local function scan_members(key, cursor, count)
  local page = redis.pcall('ZSCAN', key, cursor, 'COUNT', count)
  return page.err and { '0', redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') } or page
end

-- After a step of the clock everything waits as long as before: due times and slots move along, and
-- a job's time at the provider is counted without the step (`shift`).
function apply_clock_step()
  local step = clock_step(K.clock, ARGV[5])
  if step == 0 then return end
  local due = redis.call('ZRANGE', K.due, 0, -1, 'WITHSCORES')
  for i = 1, #due, 2 do
    local id, due_ms = due[i], due[i + 1]
    local job = read_fields(K.job .. id, 'state', 'key', 'user', 'team', 'dispatched')
    if job.state then
      schedule(id, job, due_ms + step)
      if job.dispatched then redis.call('HINCRBY', K.job .. id, 'shift', int(step)) end
    end
  end
  for _, receiver in ipairs(redis.call('ZRANGE', K.receivers, 0, -1)) do
    local waiting = redis.call('ZRANGE', K.deliveries .. receiver, 0, -1, 'WITHSCORES')
    for i = 1, #waiting, 2 do
      redis.call('ZADD', K.deliveries .. receiver, int(waiting[i + 1] + step), waiting[i])
    end
    local due = redis.call('ZSCORE', K.receivers, receiver)
    redis.call('ZADD', K.receivers, int(due + step), receiver)
  end
  local collecting = redis.call('ZRANGE', K.collect, 0, -1, 'WITHSCORES')
  for i = 1, #collecting, 2 do
    redis.call('ZADD', K.collect, int(collecting[i + 1] + step), collecting[i])
  end
end
