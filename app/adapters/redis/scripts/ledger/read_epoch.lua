#!lua flags=no-writes
-- KEYS [1] slot
-- -> {epoch?, seq, quarantined = 1 or 0, suspect? (why), version (of the data), now_ms,
--     earlier = {epoch, rebuilt up to ...}}
local stored = redis.call('MGET', K.epoch, K.seq, K.suspect)
local epoch, seq, suspect = stored[1], stored[2], stored[3]
return named({
  epoch = epoch, seq = tonumber(seq or 0), quarantined = suspect and 1 or 0, suspect = suspect,
  version = epoch and data_version() or DATA_VERSION, now_ms = now_ms,
  earlier = redis.call('HGETALL', K.lineage),
})
