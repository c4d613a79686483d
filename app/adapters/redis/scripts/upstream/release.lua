#!lua
-- Give a turn back: the place at the provider, and the start if its time has not come.
-- KEYS [1] turns [2] busy  ARGV [1] job id -> 1
redis.call('ZREM', KEYS[2], ARGV[1])
local start = redis.call('ZSCORE', KEYS[1], ARGV[1])
if start and tonumber(start) > now_ms then redis.call('ZREM', KEYS[1], ARGV[1]) end
return 1
