#!lua
-- Let an Idempotency-Key mean a job whose pictures the cache answered with.
-- KEYS [1] slot  ARGV [1] epoch [2] position [3] {job, dedup, user, most?}
-- -> bound | full (the user had `most` within the hour) | missing
if data_lost() then return fail(E.data_lost) end
local ask = cjson.decode(ARGV[3])
if redis.call('EXISTS', K.job .. ask.job) == 0 then return reply('missing') end
if ask.most then
  local own = K.replays .. ask.user
  if tonumber(redis.call('GET', own) or 0) >= ask.most then return reply('full') end
  if redis.call('INCR', own) == 1 then redis.call('PEXPIRE', own, HOUR_MS) end
end
bind(ask.dedup, ask.job, true)
return reply('bound')
