#!lua
-- Let an Idempotency-Key mean a job that answered out of the cache.
-- KEYS [1] slot  ARGV [1] epoch [2] position [3] {job, dedup, user, most?}
-- -> {'bound'} | {'full'} when the user had `most` within the hour | {'missing'} | {'data_loss'}
if data_lost() then return reply('data_loss') end
local ask = cjson.decode(ARGV[3])
if redis.call('EXISTS', K.job .. ask.job) == 0 then return reply('missing') end
if ask.most then
  local own = K.replays .. ask.user
  if tonumber(redis.call('GET', own) or 0) >= ask.most then return reply('full') end
  if redis.call('INCR', own) == 1 then redis.call('PEXPIRE', own, HOUR_MS) end
end
bind(ask.dedup, ask.job)
return reply('bound')
