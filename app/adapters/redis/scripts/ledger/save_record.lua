#!lua
-- Write the record of a user, team, key or spending stop, and with it who changed what.
-- KEYS [1] slot  ARGV [1] epoch [2] position
--      [3] {family = users, teams, keys or stops, name, record, mode = create, replace or put, digest?,
--           seen? (the record that this one was made from), audit = {actor, kind, reason}}
-- -> written | kept (it exists already, for create; or does not yet, for replace) | changed (it is not
--    what was seen any more) | taken (the digest is another key's, perhaps a revoked one's)
if data_lost() then return fail(E.data_lost) end
local ask = cjson.decode(ARGV[3])
local family = K[ask.family]
local before = redis.call('HGET', family, ask.name)
if ask.mode == 'create' and before then return reply('kept') end
if ask.mode == 'replace' and not before then return reply('kept') end
if ask.seen and before and has_changed(ask.seen, before, ask.name) then return reply('changed') end
local owner = ask.digest and redis.call('HGET', K.digests, ask.digest)
if owner and owner ~= ask.name then return reply('taken') end
redis.call('HSET', family, ask.name, ask.record)
if ask.digest then
  local old = before and cjson.decode(before).digest
  if old and old ~= ask.digest then redis.call('HDEL', K.digests, old) end
  redis.call('HSET', K.digests, ask.digest, ask.name)
end
local change = { 'record', ask.record }
local audit = append_audit(ask.audit, ask.family, ask.name, before, ask.record)
if audit then
  change[3], change[4] = 'audit', audit
end
publish_change(ask.family, ask.name, change, next_seq(ask.name))
return reply('written')
