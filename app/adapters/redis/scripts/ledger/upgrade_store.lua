#!lua
-- Close a store for an upgrade of its data; note that a step is done; open it again in a new epoch, so
-- that every gateway asks again which version it has to do with.
-- KEYS [1] slot  ARGV [1] 'begin', 'step' or 'end' [2] the version it must have now [3] a random epoch
--      to begin ('end')
-- -> {done = 1, or 0: it is of another version, closed for another reason, or not closed}
local stored = redis.call('MGET', K.epoch, K.seq, K.suspect)
local epoch, seq, suspect = stored[1], tonumber(stored[2] or 0), stored[3]
if not epoch or data_version() ~= tonumber(ARGV[2]) then return named({ done = 0 }) end
if suspect and suspect ~= 'upgrading' then return named({ done = 0 }) end
if ARGV[1] ~= 'begin' and not suspect then return named({ done = 0 }) end
if ARGV[1] == 'begin' then
  redis.call('SET', K.suspect, 'upgrading')
elseif ARGV[1] == 'step' then
  redis.call('SET', K.data_version, int(ARGV[2] + 1))
else
  local begins = seq + 1
  redis.call('HSET', K.lineage, epoch, int(seq))
  redis.call('SET', K.seq, int(begins))
  redis.call('HSET', K.trail, begins % MAX_POSITIONS, int(begins) .. ' rebuilt')
  redis.call('SET', K.epoch, ARGV[3])
  redis.call('PEXPIREAT', K.suspect, 1)  -- as good as a DEL, which Koi's user does not have
end
return named({ done = 1 })
