#!lua flags=no-writes
-- KEYS [1] slot -> {key id, ms of its latest use, ...}
return redis.call('HGETALL', K.used)
