#!lua
-- The position of this store's stored, made when there is none and the caller knows of none.
-- KEYS [1] slot  ARGV [1] a random epoch to use if none [2] the epoch the caller knows, or '' [3] its
--      sequence number
-- -> {epoch, position, verdict, begins}: 'same', 'continued' (rebuilt from all the caller knows), 'lost'
--    or 'foreign'; and the number this stored began after
local stored = redis.call('MGET', K.epoch, K.seq, K.suspect)
local known, knows = ARGV[2], tonumber(ARGV[3])
if not stored[1] then
  if known ~= '' then redis.call('SET', K.suspect, known, 'NX') end
  if known ~= '' or stored[3] then return { '', '0', 'lost', 0 } end
  stored[1] = ARGV[1]
  redis.call('SET', K.epoch, ARGV[1])
end
local seq = tonumber(stored[2] or 0)
local position = redis.call('HGET', K.trail, seq % MAX_POSITIONS) or int(seq)
-- A rebuilt stored begins one after the highest number of those before it (rebuild.py).
local begins = 0
for _, rebuilt_to in ipairs(redis.call('HVALS', K.lineage)) do
  begins = math.max(begins, tonumber(rebuilt_to) + 1)
end
local function found(verdict) return { stored[1], position, verdict, begins } end
if stored[3] then return found('lost') end
if known == '' or known == stored[1] then
  return found(knows <= seq and 'same' or 'lost')
end
local rebuilt_to = redis.call('HGET', K.lineage, known)
if not rebuilt_to then return found('foreign') end
if knows <= tonumber(rebuilt_to) then return found('continued') end
redis.call('SET', K.suspect, known)  -- a journal was left out of the rebuild
return found('lost')
