#!lua
-- Close an empty ledger for a restore: from here on every writing script refuses. Gateways that wait for
-- it have begun an epoch, which holds nothing; the restored one continues it.
-- KEYS [1] slot  ARGV [1] the backup's name [2] a name for this run, or '' to ask only whether it would
-- -> {begun = 1, earlier = {epoch, up to ...}} | {begun = 0, why}: 'not_empty', 'quarantined',
--    'not_allowed' (the store's user may not delete), or the name of the other backup that is half restored
local stored = redis.call('MGET', K.epoch, K.seq, K.suspect)
local epoch, seq, suspect = stored[1], stored[2], stored[3]
local other = suspect and string.match(suspect, '^restoring (%S+)')
if other and other ~= ARGV[1] then return named({ begun = 0, why = other }) end
if suspect and not other then return named({ begun = 0, why = 'quarantined' }) end
if not other then
  for _, noun in ipairs({ 'stream', 'audit', 'users', 'teams', 'keys', 'stops', 'due', 'collect' }) do
    local key = K[noun]
    if redis.call('EXISTS', key) == 1 then return named({ begun = 0, why = 'not_empty' }) end
  end
end
local deleted = redis.pcall('DEL', K.draft)
if type(deleted) == 'table' and deleted.err then return named({ begun = 0, why = 'not_allowed' }) end
if ARGV[2] ~= '' then
  redis.call('SET', K.suspect, 'restoring ' .. ARGV[1] .. ' ' .. ARGV[2])
end
local earlier = redis.call('HGETALL', K.lineage)
if epoch then
  earlier[#earlier + 1] = epoch
  earlier[#earlier + 1] = seq or '0'
end
return named({ begun = 1, earlier = earlier })
