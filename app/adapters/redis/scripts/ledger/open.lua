#!lua
-- The mark of this store's life, made when there is none and the caller knows of none.
-- KEYS [1] slot  ARGV [1] a random epoch to use if none [2] the epoch the caller knows, or '' [3] its
--      sequence number
-- -> {epoch, mark, verdict}: 'same', 'continued' (rebuilt from all the caller knows), 'lost' or
--    'foreign'
local life = redis.call('MGET', K.epoch, K.seq, K.suspect)
local known, knows = ARGV[2], tonumber(ARGV[3])
if not life[1] then
  if known ~= '' then redis.call('SET', K.suspect, known, 'NX') end
  if known ~= '' or life[3] then return { '', '0', 'lost' } end
  life[1] = ARGV[1]
  redis.call('SET', K.epoch, ARGV[1])
end
local seq = tonumber(life[2] or 0)
local mark = redis.call('HGET', K.trail, seq % TRAIL) or int(seq)
if life[3] then return { life[1], mark, 'lost' } end
if known == '' or known == life[1] then
  return { life[1], mark, knows <= seq and 'same' or 'lost' }
end
local rebuilt_to = redis.call('HGET', K.lineage, known)
if not rebuilt_to then return { life[1], mark, 'foreign' } end
if knows <= tonumber(rebuilt_to) then return { life[1], mark, 'continued' } end
redis.call('SET', K.suspect, known)  -- a journal was left out of the rebuild
return { life[1], mark, 'lost' }
