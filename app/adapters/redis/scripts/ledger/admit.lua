#!lua
-- Reserve images, money and concurrency of every scope, all or nothing, and open the job in R.
-- KEYS [1] slot  ARGV [1] epoch [2] position [4] days
--      [3] {job, scope_keys, limits, dedup, rate_unchecked?, images, unit?, lease_ms, task_ms, fields,
--           user, refusals?}
-- -> opened {created_ms, limits} | joined {record, limits} (another job) | known {record, limits}
--    (this very job was opened before)
-- errors: rate_limited {scope, seconds}, possible_duplicate {calls} (its rate is counted), key_reused,
--    spending_stopped {scope, reason}, too_many_refusals {wait_ms}, slots_taken {scope, wait_ms},
--    quota_exceeded {scope, kind, label, limit, used, held, ends_ms}, clock_skew {now_ms}
if data_lost() then return fail(E.data_lost) end
local ask = cjson.decode(ARGV[3])
local day = today(ARGV[4])
if not day then return fail(E.clock_skew, { now_ms = now_ms }) end

local id, scope_keys, limits = ask.job, ask.scope_keys, ask.limits
local labels = { day.label, day.month }
local windows = { read_window(day.label, scope_keys), read_window(day.month, scope_keys) }
local function found(status, job_id)
  if status == 'known' then
    emit_change('job', id, record(id), redis.call('HGET', K.job .. id, 'seq'))
  end
  local rows = limit_rows(scope_keys, limits, day, windows)
  return reply(status, { record = record(job_id), limits = rows })
end

if redis.call('EXISTS', K.job .. id) == 1 then return found('known', id) end
if ask.rate_unchecked then
  local scope, seconds = count_request(scope_keys, limits)
  if scope then return fail(E.rate_limited, { scope = scope, seconds = seconds }) end
end
local joined, undecided, calls = find_duplicate(ask.dedup)
if undecided then return fail(undecided, { calls = calls }) end
if joined then return found('joined', joined) end

for i, text in ipairs(redis.call('HMGET', K.stops, unpack(scope_keys))) do
  local stop = text and cjson.decode(text)
  if stop and stop.stopped then return fail(E.spending_stopped, { scope = i, reason = stop.reason }) end
end
if ask.refusals and tonumber(redis.call('GET', K.refusals .. ask.user) or 0) >= ask.refusals then
  return fail(E.too_many_refusals, { wait_ms = redis.call('PTTL', K.refusals .. ask.user) })
end

-- Of several windows that refuse, name the one that stays closed the longest.
local cost = ask.images * (ask.unit or 0)
local refusal
local function check_limit(scope, kind, label, limit, used, held, asked, ends_ms)
  if limit and used + held + asked > limit and not (refusal and refusal.ends_ms >= ends_ms) then
    refusal = {
      scope = scope, kind = kind, label = label, limit = limit, used = used, held = held,
      ends_ms = ends_ms,
    }
  end
end
for i in ipairs(scope_keys) do
  local limit, d, m = limits[i], windows[1][i], windows[2][i]
  check_limit(i, 'images', day.label, limit.images_day, d.images, d.held_images, ask.images, day.ends)
  check_limit(i, 'images', day.month, limit.images_month, m.images, m.held_images, ask.images,
    day.month_ends)
  check_limit(i, 'money', day.label, limit.micros_day, d.micros, d.held_micros, cost, day.ends)
  check_limit(i, 'money', day.month, limit.micros_month, m.micros, m.held_micros, cost, day.month_ends)
end
if refusal then return fail(E.quota_exceeded, refusal) end
for i, scope_key in ipairs(scope_keys) do
  local limit = limits[i].concurrency
  if limit and count_running(scope_key) >= limit then
    return fail(E.slots_taken, { scope = i, wait_ms = slot_wait_ms(scope_key) })
  end
end

for w, label in ipairs(labels) do
  for i in ipairs(scope_keys) do
    local sums = windows[w][i]
    sums.held_images, sums.held_micros = sums.held_images + ask.images, sums.held_micros + cost
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
number_last_change(seq)

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

return reply('opened', { created_ms = now_ms, limits = limit_rows(scope_keys, limits, day, windows) })
