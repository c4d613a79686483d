#!lua
-- The mark of this store's life, made when there is none and the caller knows of none.
-- KEYS [1] slot  ARGV [1] a random epoch to use if none [2] the epoch the caller knows, or '' [3] its
--      sequence number
-- -> {epoch, mark, verdict, begins}: 'same', 'continued' (rebuilt from all the caller knows), 'lost'
--    or 'foreign'; and the number this life began after
local life = redis.call('MGET', K.epoch, K.seq, K.suspect)
local known, knows = ARGV[2], tonumber(ARGV[3])
if not life[1] then
  if known ~= '' then redis.call('SET', K.suspect, known, 'NX') end
  if known ~= '' or life[3] then return { '', '0', 'lost', 0 } end
  life[1] = ARGV[1]
  redis.call('SET', K.epoch, ARGV[1])
end
local seq = tonumber(life[2] or 0)
local mark = redis.call('HGET', K.trail, seq % TRAIL) or int(seq)
-- A rebuilt life begins one after the highest number of those before it (rebuild.py).
local begins = 0
for _, rebuilt_to in ipairs(redis.call('HVALS', K.lineage)) do
  begins = math.max(begins, tonumber(rebuilt_to) + 1)
end
local function found(verdict) return { life[1], mark, verdict, begins } end
if life[3] then return found('lost') end
if known == '' or known == life[1] then
  return found(knows <= seq and 'same' or 'lost')
end
local rebuilt_to = redis.call('HGET', K.lineage, known)
if not rebuilt_to then return found('foreign') end
if knows <= tonumber(rebuilt_to) then return found('continued') end
redis.call('SET', K.suspect, known)  -- a journal was left out of the rebuild
return found('lost')
