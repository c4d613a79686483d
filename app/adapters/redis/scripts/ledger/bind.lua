#!lua
-- Let an Idempotency-Key mean a job that answered out of the cache.
-- KEYS [1] slot  ARGV [1] epoch [2] mark [3] {job, repeated}
-- -> {'bound'} | {'missing'} | {'amnesia'}
if amnesia() then return reply('amnesia') end
local ask = cjson.decode(ARGV[3])
if redis.call('EXISTS', K.job .. ask.job) == 0 then return reply('missing') end
bind(ask.repeated, ask.job)
return reply('bound')
