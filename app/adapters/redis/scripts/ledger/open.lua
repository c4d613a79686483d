#!lua
-- The mark of this store's life, made when there is none.
-- KEYS [1] slot  ARGV [1] a random epoch to use if none -> {epoch, seq}
redis.call('SET', K.epoch, ARGV[1], 'NX')
return { redis.call('GET', K.epoch), tonumber(redis.call('GET', K.seq) or 0) }
