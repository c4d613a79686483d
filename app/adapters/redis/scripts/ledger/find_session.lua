#!lua flags=allow-oom
-- A session. An old copy of the store might hold one that was ended since, so it answers nobody.
-- KEYS [1] slot  ARGV [1] epoch [2] position [3] {id}
-- -> known {now_ms, session} | unknown {now_ms}
if data_lost() then return fail(E.data_lost) end
local found = redis.call('GET', K.session .. cjson.decode(ARGV[3]).id)
if not found then return reply('unknown', { now_ms = now_ms }) end
return reply('known', { now_ms = now_ms, session = found })
