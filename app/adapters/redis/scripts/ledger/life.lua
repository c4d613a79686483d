#!lua flags=no-writes
-- KEYS [1] slot
-- -> {epoch or false, seq, 1 when suspect, now ms, {earlier epoch, rebuilt up to, ...}}
local life = redis.call('MGET', K.epoch, K.seq, K.suspect)
local earlier = redis.call('HGETALL', K.lineage)
return { life[1], tonumber(life[2] or 0), life[3] and 1 or 0, now_ms, earlier }
