#!lua flags=no-writes
-- KEYS [1] slot  ARGV [1] after this id [2] count -> stream entries
return redis.call('XRANGE', K.changes, '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
