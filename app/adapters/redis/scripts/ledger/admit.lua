#!lua
-- Reserve images, money and concurrency of every line, all or nothing, and open the job in R.
-- KEYS [1] slot  ARGV [1] epoch [2] mark [4] days
--      [3] {job, lines, limits, repeated, unpaced?, images, unit?, lease_ms, task_ms, fields, user,
--      refusals?}
-- -> {'paced', line, seconds} when it had not arrived and came too soon
--    {'contested', calls} when it has arrived, but may repeat one of these
--    {'opened', now ms, rows} | {'joined' or 'known', record, rows} | {'reused'}
--    {'stopped', line, reason}
--    {'quota', line, meter, label, limit, used, held, reset ms} | {'busy', line, ms until a slot}
--    {'refused', ms until the user's free refusals count anew}
--    {'skew', now ms} | {'amnesia'}
if amnesia() then return reply('amnesia') end
local ask = cjson.decode(ARGV[3])
local day = today(cjson.decode(ARGV[4]))
if not day then return reply('skew', now_ms) end

local id, lines, limits = ask.job, ask.lines, ask.limits
local labels = { day.label, day.month }
local windows = { read_window(day.label, lines), read_window(day.month, lines) }
local function found(status, job_id)
  if status == 'known' then
    tell('job', id, record(id), redis.call('HGET', K.job .. id, 'seq'))
  end
  return reply(status, record(job_id), standing(lines, limits, day, windows))
end

if redis.call('EXISTS', K.job .. id) == 1 then return found('known', id) end
if ask.unpaced then
  local line, seconds = keep_pace(lines, limits)
  if line then return reply('paced', line, seconds) end
end
local joined, unsaid, calls = rejoin(ask.repeated)
if unsaid then return reply(unsaid, calls) end
if joined then return found('joined', joined) end

for i, text in ipairs(redis.call('HMGET', K.stops, unpack(lines))) do
  local stop = text and cjson.decode(text)
  if stop and stop.stopped then return reply('stopped', i, stop.reason) end
end
if ask.refusals and tonumber(redis.call('GET', K.refusals .. ask.user) or 0) >= ask.refusals then
  return reply('refused', redis.call('PTTL', K.refusals .. ask.user))
end

-- Of several windows that refuse, name the one that stays closed the longest.
local cost = ask.images * (ask.unit or 0)
local refusal
local function judge(line, meter, label, limit, used, held, asked, ends_ms)
  if limit and used + held + asked > limit and not (refusal and refusal[7] >= ends_ms) then
    refusal = { line, meter, label, limit, used, held, ends_ms }
  end
end
for i in ipairs(lines) do
  local limit, d, m = limits[i], windows[1][i], windows[2][i]
  judge(i, 'images', day.label, limit.images_day, d[1], d[3], ask.images, day.ends)
  judge(i, 'images', day.month, limit.images_month, m[1], m[3], ask.images, day.month_ends)
  judge(i, 'money', day.label, limit.micros_day, d[2], d[4], cost, day.ends)
  judge(i, 'money', day.month, limit.micros_month, m[2], m[4], cost, day.month_ends)
end
if refusal then return reply('quota', unpack(refusal)) end
for i, line in ipairs(lines) do
  local limit = limits[i].concurrency
  if limit and running(line) >= limit then return reply('busy', i, slot_wait_ms(line)) end
end

for w, label in ipairs(labels) do
  for i in ipairs(lines) do
    local row = windows[w][i]
    row[3], row[4] = row[3] + ask.images, row[4] + cost
  end
  write_window(label, lines, windows[w])
end
keep_window(day.label, day.keep)
keep_window(day.month, day.month_keep)
redis.call('HINCRBY', K.open, 'R', 1)
redis.call('HINCRBY', K.open, 'images', ask.images)
redis.call('HINCRBY', K.open, 'micros', int(cost))

for _, line in ipairs(lines) do
  local slots = K.slots .. line
  redis.call('ZREMRANGEBYSCORE', slots, '-inf', int(now_ms))
  redis.call('ZADD', slots, int(now_ms + ask.lease_ms + GRACE_MS), id)
end
redis.call('ZADD', K.due, int(now_ms + ask.lease_ms), id)
local seq = rise(id)
write(id, 'state', 'R', 'status', 'queued', 'created', int(now_ms), 'day', day.label,
  'month', day.month, 'attempt', ask.repeated.attempt, 'seq', int(seq), unpack(ask.fields))
changes[#changes][4] = seq

if ask.repeated.marked then redis.call('HSET', K.job .. id, 'overtook', int(now_ms)) end

local attempts = K.attempt .. ask.repeated.attempt
redis.call('ZADD', attempts, int(now_ms), id)
redis.call('ZREMRANGEBYRANK', attempts, 0, -17)
redis.call('PEXPIRE', attempts, int(math.max(ask.task_ms, REPLAY_MS)))
if ask.repeated.replay then bind(ask.repeated, id) end
local own = K.jobs .. ask.user
redis.call('ZADD', own, int(now_ms), id)
redis.call('ZREMRANGEBYRANK', own, 0, -1001)
keep_list(ask.user, ask.task_ms)

return reply('opened', now_ms, standing(lines, limits, day, windows))
