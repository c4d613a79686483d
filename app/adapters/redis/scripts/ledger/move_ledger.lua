#!lua
-- Close a ledger because it moves to another store, or open it again.
-- KEYS [1] slot  ARGV [1] the other store's address, or '' to open it again [2]? close it only while this
--      is its latest number
-- -> {moved = 1 or 0, suspect? (why it was closed before), seq? (its number, when it is another one)}
local suspect = redis.call('GET', K.suspect)
if ARGV[1] == '' then
  if not moved_to(suspect) then return named({ moved = 0, suspect = suspect }) end
  redis.call('PEXPIREAT', K.suspect, 1)  -- as good as a DEL, which Koi's user does not have
  return named({ moved = 1 })
end
local seq = redis.call('GET', K.seq) or '0'
if ARGV[2] and tonumber(seq) ~= tonumber(ARGV[2]) then return named({ moved = 0, seq = tonumber(seq) }) end
if suspect and moved_to(suspect) ~= ARGV[1] then return named({ moved = 0, suspect = suspect }) end
redis.call('SET', K.suspect, 'moved ' .. ARGV[1])
return named({ moved = 1 })
