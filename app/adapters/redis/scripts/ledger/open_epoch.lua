#!lua
-- The epoch and position of this store, begun when there is none and the caller knows of none.
-- KEYS [1] slot  ARGV [1] a random epoch to begin, or '' to begin none (the caller cannot read what it
--      knew) [2] the epoch the caller knows, or '' [3] its position [4 ...] what others who write its
--      journal had seen of that epoch
-- -> {epoch, position, verdict, begins, continues, place?, suspect?, version?}: 'same', 'continued'
--    (rebuilt from all the caller knows), 'lost' (and closed from now on for everybody), 'foreign', 'moved'
--    (to `place`), 'version' (the data is of another one) or 'unreadable' (the store is empty, and was
--    perhaps not for who cannot read what it knew). `suspect` is why the store was closed before;
--    `begins` the sequence number after which this epoch began, `continues` the earlier ones it continues
local stored = redis.call('MGET', K.epoch, K.seq, K.suspect)
local epoch, seq, quarantined = stored[1], tonumber(stored[2] or 0), stored[3]
local known, known_seq = ARGV[2], seq_of(ARGV[3])
if not epoch then
  if known ~= '' then redis.call('SET', K.suspect, known, 'NX') end
  if known ~= '' or quarantined or ARGV[1] == '' then
    local lost = known ~= '' or quarantined
    return named({ epoch = '', position = '0', verdict = lost and 'lost' or 'unreadable', begins = 0,
      continues = {}, suspect = quarantined })
  end
  epoch = ARGV[1]
  redis.call('SET', K.epoch, epoch)
  redis.call('SET', K.data_version, DATA_VERSION)
end
local latest = redis.call('HGET', K.trail, seq % MAX_POSITIONS) or int(seq)
-- A rebuilt epoch begins one after the highest number of those before it (rebuild.py).
local begins = 0
local lineage, continues = redis.call('HGETALL', K.lineage), {}
for i = 1, #lineage, 2 do
  continues[#continues + 1] = lineage[i]
  begins = math.max(begins, tonumber(lineage[i + 1]) + 1)
end
local function found(verdict)
  return named({
    epoch = epoch, position = latest, verdict = verdict, begins = begins, continues = continues,
    place = moved_to(quarantined), suspect = quarantined, version = data_version(),
  })
end
if data_version() ~= DATA_VERSION then return found('version') end
if moved_to(quarantined) then return found('moved') end
if quarantined then return found('lost') end
if known == '' then return found('same') end
if known == epoch then
  for i = 3, #ARGV do
    -- The number may be there, and raised by something else: a copy that went on.
    local seen = seq_of(ARGV[i])
    local theirs = redis.call('HGET', K.trail, seen % MAX_POSITIONS)
    if seen > seq or (theirs and theirs ~= ARGV[i] and seq_of(theirs) == seen) then
      redis.call('SET', K.suspect, known)
      return found('lost')
    end
  end
  return found('same')
end
local rebuilt_to = redis.call('HGET', K.lineage, known)
if not rebuilt_to then return found('foreign') end
if known_seq <= tonumber(rebuilt_to) then return found('continued') end
redis.call('SET', K.suspect, known)  -- a journal was left out of the rebuild
return found('lost')
