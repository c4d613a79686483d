#!lua flags=no-writes
-- KEYS [1] slot
-- -> {epoch?, seq, quarantined = 1 or 0, now_ms, earlier = {epoch, rebuilt up to ...}}
local stored = redis.call('MGET', K.epoch, K.seq, K.suspect)
local epoch, seq, suspect = stored[1], stored[2], stored[3]
return named({
  epoch = epoch, seq = tonumber(seq or 0), quarantined = suspect and 1 or 0, now_ms = now_ms,
  earlier = redis.call('HGETALL', K.lineage),
})
