#!lua
-- Write one record.
-- KEYS [1] slot  ARGV [1] users, teams or keys [2] name [3] record [4] create, replace or put
--      [5] digest, of a key -> 1 when written, 0 when it exists (create) or does not (replace)
local family, name = K[ARGV[1]], ARGV[2]
local before = redis.call('HGET', family, name)
if ARGV[4] == 'create' and before then return 0 end
if ARGV[4] == 'replace' and not before then return 0 end
redis.call('HSET', family, name, ARGV[3])
if ARGV[5] then
  local old = before and cjson.decode(before).digest
  if old and old ~= ARGV[5] then redis.call('HDEL', K.digests, old) end
  redis.call('HSET', K.digests, ARGV[5], name)
end
return 1
