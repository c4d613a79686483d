#!lua
-- Reserve images, money and concurrency of every scope, all or nothing, and open the job in R.
-- KEYS [1] slot  ARGV [1] epoch [2] position [4] days
--      [3] {job, scope_keys, limits, dedup, rate_unchecked?, day_unchecked?, images, unit?, lease_ms, task_ms, fields,
--           user, refusals?, attributed? = {said = {name = value ...}, most}}
-- -> opened {created_ms, limits} (the journal gets `fields` beside the change) | joined {record, limits} (another job) | known {record, limits}
--    (this very job was opened before)
-- errors: rate_limited {scope, seconds?, limit?, ends_ms?}, possible_duplicate {calls} (its rate is counted), key_reused,
--    spending_stopped {scope, reason}, too_many_refusals {wait_ms}, slots_taken {scope, wait_ms},
--    quota_exceeded {scope, kind, label, limit, used, held, ends_ms}, clock_skew {now_ms}
local TIDY_EVERY = 16  -- admissions: what lapsed or is too long is cut now and then

if data_lost() then return fail(E.data_lost) end
local ask = cjson.decode(ARGV[3])
local day = today(ARGV[4])
if not day then return fail(E.clock_skew, { now_ms = now_ms }) end

local id, scope_keys, limits = ask.job, ask.scope_keys, ask.limits
local in_day, in_month = read_packed(day.label, scope_keys), read_packed(day.month, scope_keys)
local spent = rates_spent_us(scope_keys, limits, 'requests', K.pace)
local image_spent = image_rates_spent_us(scope_keys, limits)
local made = requests_of_day(day, scope_keys, limits)
local function found(status, job_id)
  if status == 'known' then
    emit_change('job', id, record(id), redis.call('HGET', K.job .. id, 'seq'))
  end
  local running = running_jobs(scope_keys, limits)
  local texts = limit_texts(day, scope_keys, in_day, in_month, spent, running)
  return reply(status, {
    record = record(job_id), limits = with_rates(texts, limits, image_spent, made),
  })
end

if redis.call('EXISTS', K.job .. id) == 1 then return found('known', id) end
if ask.rate_unchecked then
  local scope, seconds = count_request(scope_keys, limits, spent)
  if scope then return fail(E.rate_limited, { scope = scope, seconds = seconds }) end
end
local joined, undecided, calls = find_duplicate(ask.dedup)
if undecided then return fail(undecided, { calls = calls }) end
if joined then return found('joined', joined) end
-- A request that was counted before was only asked about other callers, or found nothing in the cache.
local uncounted = ask.rate_unchecked or ask.day_unchecked
local full = uncounted and find_full_day(limits, made)
if full then return fail(E.rate_limited, daily_refusal(day, full)) end

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
      scope = scope, kind = kind, label = label, limit = limit, used = used + 0, held = held + 0,
      ends_ms = ends_ms,
    }
  end
end
-- Whoever counts something first in a window counts it for the house, too.
local new_day, new_month = not in_day[#scope_keys], not in_month[#scope_keys]
for i = 1, #scope_keys do
  local limit = limits[i]
  local images, micros, held_images, held_micros = split_packed(in_day[i])
  local m_images, m_micros, m_held_images, m_held_micros = split_packed(in_month[i])
  check_limit(i, 'images', day.label, limit.images_day, images, held_images, ask.images, day.ends)
  check_limit(i, 'images', day.month, limit.images_month, m_images, m_held_images, ask.images,
    day.month_ends)
  check_limit(i, 'money', day.label, limit.micros_day, micros, held_micros, cost, day.ends)
  check_limit(i, 'money', day.month, limit.micros_month, m_micros, m_held_micros, cost, day.month_ends)
  in_day[i] = string.format('%s %s %d %d', images, micros, held_images + ask.images, held_micros + cost)
  in_month[i] = string.format('%s %s %d %d', m_images, m_micros, m_held_images + ask.images,
    m_held_micros + cost)
end
if refusal then return fail(E.quota_exceeded, refusal) end
local fast, seconds = find_full_image_rate(scope_keys, limits, image_spent, ask.images)
if fast then
  return fail(E.rate_limited, { scope = fast, seconds = seconds, limit = 'images_minute' })
end
local running = running_jobs(scope_keys, limits)
for i, scope_key in ipairs(scope_keys) do
  local limit = limits[i].concurrency
  if limit and running[i] >= limit then
    return fail(E.slots_taken, { scope = i, wait_ms = slot_wait_ms(scope_key) })
  end
end

for i = 1, #scope_keys do running[i] = running[i] + 1 end
write_packed(day.label, scope_keys, in_day)
write_packed(day.month, scope_keys, in_month)
if new_day then expire_window(day.label, day.keep) end
if new_month then expire_window(day.month, day.month_keep) end
redis.call('HINCRBY', K.open, 'R', 1)
redis.call('HINCRBY', K.open, 'images', ask.images)
redis.call('HINCRBY', K.open, 'micros', cost)

local seq = next_seq(id)
local tidies = seq % TIDY_EVERY == 0
for _, scope_key in ipairs(scope_keys) do
  local slots = K.slots .. scope_key
  if tidies then redis.call('ZREMRANGEBYSCORE', slots, '-inf', now_ms) end
  redis.call('ZADD', slots, now_ms + ask.lease_ms + GRACE_MS, id)
end
redis.call('ZADD', K.due, now_ms + ask.lease_ms, id)
local own_fields = {
  'state', 'R', 'status', 'queued', 'created', int(now_ms), 'day', day.label, 'month', day.month,
  'attempt', ask.dedup.attempt, 'seq', int(seq),
}
local taken = take_image_rate(scope_keys, limits, image_spent, ask.images)
if taken then
  own_fields[#own_fields + 1] = 'image_rate'
  own_fields[#own_fields + 1] = taken
end
if uncounted then count_request_of_day(day, scope_keys, limits, made) end
add_counted_as(own_fields, ask, day)
emit_change('job', id, own_fields, seq)
local fields = ask.fields
for i = 1, #own_fields do fields[#fields + 1] = own_fields[i] end
redis.call('HSET', K.job .. id, unpack(fields))

if ask.dedup.is_sdk_retry then redis.call('HSET', K.job .. id, 'overtook', int(now_ms)) end

local attempts = K.attempt .. ask.dedup.attempt
redis.call('ZADD', attempts, now_ms, id)
redis.call('ZREMRANGEBYRANK', attempts, 0, -17)
redis.call('PEXPIRE', attempts, math.max(ask.task_ms, IDEMPOTENCY_TTL_MS))
if ask.dedup.replay then bind(ask.dedup, id) end
local own = K.jobs .. ask.user
redis.call('ZADD', own, now_ms, id)
if tidies then redis.call('ZREMRANGEBYRANK', own, 0, -1001) end
extend_job_list(ask.user, ask.task_ms)

return reply('opened', {
  created_ms = now_ms,
  limits = with_rates(limit_texts(day, scope_keys, in_day, in_month, spent, running), limits,
    image_spent, made),
})
