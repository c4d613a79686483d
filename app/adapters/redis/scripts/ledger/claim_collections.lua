#!lua flags=allow-oom
-- Lease settled jobs whose images are due for another try. The try is counted before it is made, and
-- the next one is due after a pause, so that a job which kills its process does not do it in a loop.
-- KEYS [1] slot  ARGV [1] epoch [2] position [3] {limit, first_ms, longest_ms, lease_ms}
-- -> claimed {now_ms, claims = {{tries, record} ...}}
if data_lost() then return fail(E.data_lost) end
local ask = cjson.decode(ARGV[3])
local claims = {}
local due = redis.call('ZRANGEBYSCORE', K.collect, '-inf', int(now_ms), 'LIMIT', 0, ask.limit)
for _, id in ipairs(due) do
  if redis.call('EXISTS', K.job .. id) == 0 then
    redis.call('ZREM', K.collect, id)
  else
    local tries = redis.call('HINCRBY', K.job .. id, 'tries', 1)
    local pause = math.min(ask.first_ms * 2 ^ math.min(tries - 1, 30), ask.longest_ms)
    redis.call('ZADD', K.collect, int(now_ms + math.max(pause, ask.lease_ms)), id)
    claims[#claims + 1] = named({ tries = tries, record = record(id) })
  end
end
return reply('claimed', { now_ms = now_ms, claims = claims })
