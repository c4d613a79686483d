#!lua flags=no-writes
-- KEYS [1] slot  ARGV [1] first id [2] last id [3] count -> stream entries
return redis.call('XRANGE', K.stream, ARGV[1], ARGV[2], 'COUNT', ARGV[3])
