#!lua
-- Put records back while the ledger is quarantined. A repeated batch changes nothing.
-- KEYS [1] slot  ARGV [1] {run? (of a restore that no other one took over), clear?, entries?, audit?, jobs?, windows?, users?, teams?, keys?, stops?,
--      journals?, owners?, used? (key id -> time),
--      deliveries?}
-- -> 1
-- errors: ledger_open
local ask, suspect = cjson.decode(ARGV[1]), redis.call('GET', K.suspect)
if not suspect or (ask.run and ask.run ~= suspect) then return fail(E.ledger_open) end

if ask.clear then
  for _, label in ipairs(redis.call('ZRANGE', K.windows, 0, -1)) do
    redis.call('DEL', K.window .. label)
  end
  redis.call('DEL', K.draft, K.audit_draft, K.windows)
end
for _, entry in ipairs(ask.entries or {}) do
  redis.call('XADD', K.draft, entry.id, unpack(entry.fields))
end

for _, record in ipairs(ask.audit or {}) do
  redis.call('XADD', K.audit_draft, record.id, unpack(record.fields))
end

-- Of several jobs with one Idempotency-Key the last bound has it, in whatever order they come; of two
-- bound at once the one that was not given up.
local function is_bound_since(replay, id, whole)
  local holder = redis.call('HGET', K.replay .. replay, 'job')
  if not holder or holder == id then return true end
  local theirs = read_fields(K.job .. holder, 'bound', 'created', 'state')
  local since, before = tonumber(whole.bound or whole.created), tonumber(theirs.bound or theirs.created or 0)
  return since > before or (since == before and whole.state ~= 'X')
end

-- A retry finds an ended job for a short time only.
local function restore_attempt(job, whole)
  local attempts, keep_ms = K.attempt .. whole.attempt, job.expires - now_ms
  if not job.due and whole.ended then
    keep_ms = math.min(keep_ms, whole.ended + RETRY_JOIN_MS - now_ms)
  end
  if keep_ms <= 0 then return end
  redis.call('ZADD', attempts, whole.created, job.id)
  if redis.call('PTTL', attempts) < keep_ms then redis.call('PEXPIRE', attempts, int(keep_ms)) end
end

local function restore(job)
  local key, whole = K.job .. job.id, {}
  for i = 1, #job.fields, 2 do whole[job.fields[i]] = job.fields[i + 1] end
  redis.call('DEL', key)
  redis.call('HSET', key, unpack(job.fields))
  if job.due then
    schedule(job.id, whole, job.due)
  else
    redis.call('ZREM', K.due, job.id)
    for _, scope_key in ipairs(scope_keys_of(whole)) do redis.call('ZREM', K.slots .. scope_key, job.id) end
  end
  if job.collect then
    redis.call('ZADD', K.collect, int(job.collect), job.id)
  else
    redis.call('ZREM', K.collect, job.id)
    if not job.due then redis.call('PEXPIREAT', key, int(job.expires)) end
  end
  redis.call('ZADD', K.jobs .. whole.user, whole.created, job.id)
  extend_job_list(whole.user, job.expires - now_ms)
  restore_attempt(job, whole)
  if whole.replay and is_bound_since(whole.replay, job.id, whole) then
    redis.call('HSET', K.replay .. whole.replay, 'job', job.id, 'body', whole.body)
    redis.call('PEXPIREAT', K.replay .. whole.replay, int((whole.bound or whole.created) + IDEMPOTENCY_TTL_MS))
  end
  for field, value in pairs(whole) do
    local part = string.match(field, '^upstream:(%d+)$')
    if part then
      redis.call('SET', K.upstream .. task_name(whole, value), job.id .. ' ' .. part, 'PXAT', int(job.expires))
    end
  end
end
for _, job in ipairs(ask.jobs or {}) do restore(job) end

for _, owner in ipairs(ask.owners or {}) do
  redis.call('SET', K.owner .. owner.picture, owner.record, 'PXAT', int(owner.expires))
end
for _, waiting in ipairs(ask.deliveries or {}) do
  local key, own = K.delivery .. waiting.id, {}
  for i = 1, #waiting.fields, 2 do own[waiting.fields[i]] = waiting.fields[i + 1] end
  if redis.call('EXISTS', key) == 0 then
    redis.call('HSET', key, unpack(waiting.fields))
    redis.call('HSET', key, 'leased', 0)
    redis.call('HINCRBY', K.undelivered, own.user, 1)
    queue_delivery(waiting.id, own.receiver, waiting.due)
    log_delivery(own.user, waiting.id)
  end
end
for id, used_ms in pairs(ask.used or {}) do redis.call('HSET', K.used, id, int(used_ms)) end
for _, window in ipairs(ask.windows or {}) do
  redis.call('HSET', K.window .. window.label, unpack(window.rows))
  expire_window(window.label, window.keep)
end
for _, noun in ipairs({ 'users', 'teams', 'keys', 'stops', 'journals' }) do
  local family = K[noun]
  for name, text in pairs(ask[noun] or {}) do
    local before = redis.call('HGET', family, name)
    redis.call('HSET', family, name, text)
    local digest = cjson.decode(text).digest
    if digest then
      local old = before and cjson.decode(before).digest
      if old and old ~= digest then redis.call('HDEL', K.digests, old) end
      redis.call('HSET', K.digests, digest, name)
    end
  end
end
return 1
