#!lua flags=allow-oom
-- The records behind a key, its user and the user's team, at one moment. An old copy of the store
-- might hold a key that was revoked since, so it answers nobody. Of a key that expired or was revoked
-- only its own record is given, for the log; it takes as long as an unknown key.
-- KEYS [1] slot  ARGV [1] epoch [2] position [3] {digest}
-- -> known {now_ms, key, user?, team?} | unknown {now_ms, ended? (record of an expired or revoked key)}
if data_lost() then return fail(E.data_lost) end
local id = redis.call('HGET', K.digests, cjson.decode(ARGV[3]).digest)
local key = id and redis.call('HGET', K.keys, id) or nil
local owner, ended = nil, nil
if key then
  local known = cjson.decode(key)
  local function past(ms) return type(ms) == 'number' and ms <= now_ms end
  if past(known.expires_ms) or past(known.revoked_ms) then key, ended = nil, key end
  owner = known.user
end
if not key then return reply('unknown', { now_ms = now_ms, ended = ended }) end
-- Written at most once a minute for each key.
local used_ms = tonumber(redis.call('HGET', K.used, id) or 0)
if now_ms - used_ms >= 60000 then redis.call('HSET', K.used, id, int(now_ms)) end
local user = redis.call('HGET', K.users, owner)
local name = user and cjson.decode(user).team
local team = type(name) == 'string' and redis.call('HGET', K.teams, name)
return reply('known', { now_ms = now_ms, key = key, user = user, team = team })
