#!lua flags=no-writes
-- KEYS [1] slot  ARGV [1] picture -> '[user, pool]' or false
return redis.call('GET', K.owner .. ARGV[1])
