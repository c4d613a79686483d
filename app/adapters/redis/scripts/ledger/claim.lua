#!lua flags=allow-oom
-- Lease the jobs that are due, the most overdue first, by moving their due time ahead.
-- KEYS [1] slot  ARGV [1] epoch [2] mark [3] {limit, lease_ms}
-- -> {'claimed', {late ms, token, record} ...} | {'amnesia'}
if amnesia() then return reply('amnesia') end
local ask = cjson.decode(ARGV[3])
local due = redis.call(
  'ZRANGEBYSCORE', K.due, '-inf', int(now_ms), 'WITHSCORES', 'LIMIT', 0, ask.limit)
local claims = {}
for i = 1, #due, 2 do
  local id = due[i]
  local job = read(K.job .. id, 'state', 'key', 'user', 'team')
  if job.state then
    local token = redis.call('HINCRBY', K.job .. id, 'claims', 1)
    schedule(id, job, now_ms + ask.lease_ms)
    claims[#claims + 1] = { math.floor(now_ms - due[i + 1]), token, record(id) }
  else
    redis.call('ZREM', K.due, id)
  end
end
return reply('claimed', unpack(claims))
