#!lua flags=allow-oom
-- Lease the jobs that are due, the most overdue first, by moving their due time ahead. Where there
-- is room for so many `polls` only, those that need one and find none left stay as they are.
-- KEYS [1] slot  ARGV [1] epoch [2] position [3] {limit, lease_ms, polls?}
-- -> {'claimed', polls due still, {late ms, token, age ms, record} ...} | {'data_loss'}
if data_lost() then return reply('data_loss') end
local ask = cjson.decode(ARGV[3])
local MAX_SCANNED = 2000
local room, left = ask.polls, 0

local function fits(id, parts)
  if not room then return true end
  local polls = count_polls(id, parts)
  if polls > 0 and room == 0 then
    left = left + polls
    return false
  end
  room = math.max(room - polls, 0)
  return true
end

local due = redis.call('ZRANGEBYSCORE', K.due, '-inf', int(now_ms), 'WITHSCORES', 'LIMIT', 0,
  room and MAX_SCANNED or ask.limit)
local claims = {}
for i = 1, #due, 2 do
  if #claims == ask.limit then break end
  local id = due[i]
  local job = read_fields(K.job .. id, 'state', 'key', 'user', 'team', 'parts', 'created', 'dispatched',
    'shift')
  if not job.state then
    redis.call('ZREM', K.due, id)
  elseif fits(id, job.parts) then
    local token = redis.call('HINCRBY', K.job .. id, 'claims', 1)
    schedule(id, job, now_ms + ask.lease_ms)
    local age = now_ms - (job.dispatched or job.created) - (job.shift or 0)
    claims[#claims + 1] = { math.floor(now_ms - due[i + 1]), token, math.floor(age), record(id) }
  end
end
return reply('claimed', left, unpack(claims))
