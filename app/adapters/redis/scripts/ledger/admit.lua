#!lua
-- Reserve images, money and concurrency of every scope_key, all or nothing, and open the job in R.
-- KEYS [1] slot  ARGV [1] epoch [2] position [4] days
--      [3] {job, scope_keys, limits, dedup, rate_unchecked?, images, unit?, lease_ms, task_ms, fields, user,
--      refusals?}
-- -> {'rate_limited', scope_key, seconds} when it had not arrived and came too soon
--    {'contested', calls} when it has arrived, but may repeat one of these
--    {'opened', now ms, rows} | {'joined' or 'known', record, rows} | {'reused'}
--    {'stopped', scope_key, reason}
--    {'quota', scope_key, meter, label, limit, used, held, reset ms} | {'busy', scope_key, ms until a slot}
--    {'refused', ms until the user's free refusals count anew}
--    {'skew', now ms} | {'data_loss'}
if data_lost() then return reply('data_loss') end
local ask = cjson.decode(ARGV[3])
local day = today(cjson.decode(ARGV[4]))
if not day then return reply('skew', now_ms) end

local id, scope_keys, limits = ask.job, ask.scope_keys, ask.limits
local labels = { day.label, day.month }
local windows = { read_window(day.label, scope_keys), read_window(day.month, scope_keys) }
local function found(status, job_id)
  if status == 'known' then
    emit_change('job', id, record(id), redis.call('HGET', K.job .. id, 'seq'))
  end
  return reply(status, record(job_id), limit_rows(scope_keys, limits, day, windows))
end

if redis.call('EXISTS', K.job .. id) == 1 then return found('known', id) end
if ask.rate_unchecked then
  local scope_key, seconds = count_request(scope_keys, limits)
  if scope_key then return reply('rate_limited', scope_key, seconds) end
end
local joined, undecided, calls = find_duplicate(ask.dedup)
if undecided then return reply(undecided, calls) end
if joined then return found('joined', joined) end

for i, text in ipairs(redis.call('HMGET', K.stops, unpack(scope_keys))) do
  local stop = text and cjson.decode(text)
  if stop and stop.stopped then return reply('stopped', i, stop.reason) end
end
if ask.refusals and tonumber(redis.call('GET', K.refusals .. ask.user) or 0) >= ask.refusals then
  return reply('refused', redis.call('PTTL', K.refusals .. ask.user))
end

-- Of several windows that refuse, name the one that stays closed the longest.
local cost = ask.images * (ask.unit or 0)
local refusal
local function check_limit(scope_key, meter, label, limit, used, held, asked, ends_ms)
  if limit and used + held + asked > limit and not (refusal and refusal[7] >= ends_ms) then
    refusal = { scope_key, meter, label, limit, used, held, ends_ms }
  end
end
for i in ipairs(scope_keys) do
  local limit, d, m = limits[i], windows[1][i], windows[2][i]
  check_limit(i, 'images', day.label, limit.images_day, d[1], d[3], ask.images, day.ends)
  check_limit(i, 'images', day.month, limit.images_month, m[1], m[3], ask.images, day.month_ends)
  check_limit(i, 'money', day.label, limit.micros_day, d[2], d[4], cost, day.ends)
  check_limit(i, 'money', day.month, limit.micros_month, m[2], m[4], cost, day.month_ends)
end
if refusal then return reply('quota', unpack(refusal)) end
for i, scope_key in ipairs(scope_keys) do
  local limit = limits[i].concurrency
  if limit and count_running(scope_key) >= limit then return reply('busy', i, slot_wait_ms(scope_key)) end
end

for w, label in ipairs(labels) do
  for i in ipairs(scope_keys) do
    local row = windows[w][i]
    row[3], row[4] = row[3] + ask.images, row[4] + cost
  end
  write_window(label, scope_keys, windows[w])
end
expire_window(day.label, day.keep)
expire_window(day.month, day.month_keep)
redis.call('HINCRBY', K.open, 'R', 1)
redis.call('HINCRBY', K.open, 'images', ask.images)
redis.call('HINCRBY', K.open, 'micros', int(cost))

for _, scope_key in ipairs(scope_keys) do
  local slots = K.slots .. scope_key
  redis.call('ZREMRANGEBYSCORE', slots, '-inf', int(now_ms))
  redis.call('ZADD', slots, int(now_ms + ask.lease_ms + GRACE_MS), id)
end
redis.call('ZADD', K.due, int(now_ms + ask.lease_ms), id)
local seq = next_seq(id)
write_job(id, 'state', 'R', 'status', 'queued', 'created', int(now_ms), 'day', day.label,
  'month', day.month, 'attempt', ask.dedup.attempt, 'seq', int(seq), unpack(ask.fields))
changes[#changes][4] = seq

if ask.dedup.is_sdk_retry then redis.call('HSET', K.job .. id, 'overtook', int(now_ms)) end

local attempts = K.attempt .. ask.dedup.attempt
redis.call('ZADD', attempts, int(now_ms), id)
redis.call('ZREMRANGEBYRANK', attempts, 0, -17)
redis.call('PEXPIRE', attempts, int(math.max(ask.task_ms, IDEMPOTENCY_TTL_MS)))
if ask.dedup.replay then bind(ask.dedup, id) end
local own = K.jobs .. ask.user
redis.call('ZADD', own, int(now_ms), id)
redis.call('ZREMRANGEBYRANK', own, 0, -1001)
extend_job_list(ask.user, ask.task_ms)

return reply('opened', now_ms, limit_rows(scope_keys, limits, day, windows))
