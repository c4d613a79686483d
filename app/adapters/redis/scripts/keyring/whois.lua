#!lua flags=no-writes
-- The records behind a key, its user and the user's team, in one look.
-- KEYS [1] slot  ARGV [1] digest
-- -> {now ms, epoch or false, key or false, user or false, team or false}
local epoch = redis.call('GET', K.epoch)
local id = redis.call('HGET', K.digests, ARGV[1])
local key = id and redis.call('HGET', K.keys, id)
local user = key and redis.call('HGET', K.users, cjson.decode(key).user)
local name = user and cjson.decode(user).team
local team = type(name) == 'string' and redis.call('HGET', K.teams, name)
return { now_ms, epoch, key or false, user or false, team or false }
