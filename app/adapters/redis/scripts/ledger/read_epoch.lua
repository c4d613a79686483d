#!lua flags=no-writes
-- KEYS [1] slot
-- -> {epoch or false, seq, 1 when suspect, now ms, {earlier epoch, rebuilt up to, ...}}
local stored = redis.call('MGET', K.epoch, K.seq, K.suspect)
local earlier = redis.call('HGETALL', K.lineage)
return { stored[1], tonumber(stored[2] or 0), stored[3] and 1 or 0, now_ms, earlier }
