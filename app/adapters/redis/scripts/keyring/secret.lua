#!lua
-- KEYS [1] slot  ARGV [1] a random secret to use if there is none -> the secret of all processes
redis.call('SET', K.secret, ARGV[1], 'NX')
return redis.call('GET', K.secret)
