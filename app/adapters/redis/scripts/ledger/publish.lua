#!lua flags=allow-oom
-- Say something to every process that serves callers.
-- KEYS [1] slot  ARGV [1] what -> how many listen
return redis.call('PUBLISH', K.callers, ARGV[1])
