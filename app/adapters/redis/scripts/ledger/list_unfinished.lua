#!lua flags=no-writes
-- The jobs that are open, then those with images pending, each by the time they are due.
-- KEYS [1] slot -> {jobs = {id ...}}
local found = redis.call('ZRANGE', K.due, 0, -1)
for _, id in ipairs(redis.call('ZRANGE', K.collect, 0, -1)) do found[#found + 1] = id end
return named({ jobs = found })
