#!lua flags=allow-oom
-- The records behind a key, its user and the user's team, in one look. An old copy might hold a key
-- that was revoked since, so it answers nobody.
-- KEYS [1] slot  ARGV [1] epoch [2] mark [3] {digest}
-- -> {'known', now ms, key or false, user or false, team or false} | {'amnesia'}
if amnesia() then return reply('amnesia') end
local id = redis.call('HGET', K.digests, cjson.decode(ARGV[3]).digest)
local key = id and redis.call('HGET', K.keys, id)
local user = key and redis.call('HGET', K.users, cjson.decode(key).user)
local name = user and cjson.decode(user).team
local team = type(name) == 'string' and redis.call('HGET', K.teams, name)
return reply('known', now_ms, key or false, user or false, team or false)
