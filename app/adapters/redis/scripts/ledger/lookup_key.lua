#!lua flags=allow-oom
-- The records behind a key, its user and the user's team, in one look. An old copy might hold a key
-- that was revoked since, so it answers nobody. A key past its end is given no more than an unknown
-- one, but its record for the log: its refusal must not take longer.
-- KEYS [1] slot  ARGV [1] epoch [2] position [3] {digest}
-- -> {'known', now ms, key or false, user or false, team or false, ended key or false}
--    {'data_loss'}
if data_lost() then return reply('data_loss') end
local id = redis.call('HGET', K.digests, cjson.decode(ARGV[3]).digest)
local key = id and redis.call('HGET', K.keys, id)
local owner, ended = nil, nil
if key then
  local known = cjson.decode(key)
  local function past(ms) return type(ms) == 'number' and ms <= now_ms end
  if past(known.expires_ms) or past(known.revoked_ms) then key, ended = nil, key end
  owner = known.user
end
-- Written at most once a minute for each key.
local used = key and tonumber(redis.call('HGET', K.used, id) or 0)
if used and now_ms - used >= 60000 then redis.call('HSET', K.used, id, int(now_ms)) end
local user = key and redis.call('HGET', K.users, owner)
local name = user and cjson.decode(user).team
local team = type(name) == 'string' and redis.call('HGET', K.teams, name)
return reply('known', now_ms, key or false, user or false, team or false, ended or false)
