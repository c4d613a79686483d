#!lua
-- Fill a variant that this job was making, or that no job is making.
-- KEYS [1] pictures [2] starts  ARGV [1] job id [2] variant [3] ttl ms [4] pictures
-- -> 1, or 0 when another job is making it
local lease = redis.call('HGET', KEYS[1], ARGV[2] .. ':making')
if lease and string.match(lease, '^%S+') ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[2] .. ':making')
redis.call('HSET', KEYS[1], ARGV[2], ARGV[1] .. ' ' .. int(now_ms) .. ' ' .. ARGV[4])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return 1
