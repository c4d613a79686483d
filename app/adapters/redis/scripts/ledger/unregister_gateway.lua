#!lua
-- A gateway process ends.
-- KEYS [1] slot  ARGV [1] its id -> how many were known by it
return redis.call('HDEL', K.gateways, ARGV[1])
