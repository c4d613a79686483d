#!lua flags=allow-oom
-- Give claimed jobs back. A status goes only from queued to processing, a progress only up. Anomalies of
-- a part's task are counted as '<kind> <times in a row> <first time, ms>'.
-- KEYS [1] slot  ARGV [1] epoch [2] position
--      [3] {jobs = {{job, token, due_ms, status?, progress?, doubts? = {{part, kind or ''} ...}} ...}}
-- -> rescheduled {kept = {1, or 0 where another process claimed it since or it ended ...}}
if data_lost() then return fail(E.data_lost) end
local due = {}

local function count_doubt(key, part, kind)
  local field = 'doubt:' .. part
  local before = redis.call('HGET', key, field)
  local same, times, since = string.match(before or '', '^(%S+) (%d+) (%d+)$')
  if kind == '' then
    if before then redis.call('HDEL', key, field) end
  elseif same == kind then
    redis.call('HSET', key, field, kind .. ' ' .. int(times + 1) .. ' ' .. since)
  else
    redis.call('HSET', key, field, kind .. ' 1 ' .. int(now_ms))
  end
end

local function give_back(ask)
  local key = K.job .. ask.job
  local state, claims, status, progress =
    unpack(redis.call('HMGET', key, 'state', 'claims', 'status', 'progress'))
  if not OPEN[state] or (claims or -1) + 0 ~= ask.token then return 0 end
  if status == 'queued' and ask.status == 'processing' then
    redis.call('HSET', key, 'status', 'processing')
  end
  if ask.progress and ask.progress > (progress or 0) + 0 then
    redis.call('HSET', key, 'progress', ask.progress)
  end
  for _, row in ipairs(ask.doubts or {}) do count_doubt(key, unpack(row)) end
  due[#due + 1], due[#due + 2] = now_ms + ask.due_ms, ask.job
  return 1
end

local kept = {}
for i, ask in ipairs(cjson.decode(ARGV[3]).jobs) do kept[i] = give_back(ask) end
set_due(due)
return reply('rescheduled', { kept = kept })
