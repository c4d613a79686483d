#!lua flags=no-writes
-- KEYS [1] slot  ARGV [1] first id [2] last id [3] count [4] 'newest'? -> stream entries, the newest
-- first where that is asked
local first, last, count = ARGV[1], ARGV[2], ARGV[3]
if ARGV[4] then return redis.call('XREVRANGE', K.stream, last, first, 'COUNT', count) end
return redis.call('XRANGE', K.stream, first, last, 'COUNT', count)
