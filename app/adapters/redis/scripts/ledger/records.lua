#!lua flags=no-writes
-- KEYS [1] slot  ARGV [1] users, teams, keys or stops [2] name, or nothing for all -> {record ...}
local family = K[ARGV[1]]
if not ARGV[2] then return redis.call('HVALS', family) end
local found = redis.call('HGET', family, ARGV[2])
return found and { found } or {}
