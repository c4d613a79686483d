#!lua flags=allow-oom
-- R -> D, written before the first byte leaves: from here on, silence may mean a bill. A lapsed
-- reservation that somebody has claimed is theirs to release, and never sent any more.
-- KEYS [1] slot  ARGV [1] epoch [2] mark [3] {job, lease_ms}
-- -> {'dispatched'} | {'kept'} when the job is not in R or was claimed | {'amnesia'}
if amnesia() then return reply('amnesia') end
local ask = cjson.decode(ARGV[3])
local job = read(K.job .. ask.job, 'state', 'claims', 'key', 'user', 'team')
if job.state ~= 'R' or job.claims then return reply('kept') end
write(ask.job, 'state', 'D', 'dispatched', int(now_ms))
changes[1][4] = rise(ask.job)
redis.call('HINCRBY', K.open, 'R', -1)
redis.call('HINCRBY', K.open, 'D', 1)
schedule(ask.job, job, now_ms + ask.lease_ms)
return reply('dispatched')
