#!lua flags=no-writes
-- The jobs that are open, or have images pending, by the time somebody must look at them.
-- KEYS [1] slot -> {job id ...}
local found = redis.call('ZRANGE', K.due, 0, -1)
for _, id in ipairs(redis.call('ZRANGE', K.collect, 0, -1)) do found[#found + 1] = id end
return found
