#!lua flags=no-writes
-- What changed since a number, and some of it; when nothing more is left, the end of a backup.
-- KEYS [1] slot  ARGV [1] {since, ids (changed before and not copied yet), entry and audit (the ids of
--      the last ones copied), most (rows of each kind)}; without `ids` only what changed is told
-- -> {epoch?, seq, changed = {id ...}, rows = {{family, name, record} ...}, jobs = {job ...},
--     entries = {{id, fields} ...}, audit = {{id, fields} ...}, suspect?, now_ms, earlier = {epoch, up to ...},
--     final = 1 when the rows hold everything up to `seq`, `changed` included, or 0}
--    or {lost = 1}: more changed than is remembered
local FAMILIES = { 'users', 'teams', 'keys', 'stops', 'journals' }
local MAX_MARKS = 256
local ask = cjson.decode(ARGV[1])
local stored = redis.call('MGET', K.epoch, K.seq, K.suspect)
local epoch, seq, suspect = stored[1], tonumber(stored[2] or 0), stored[3]
if seq - ask.since > MAX_POSITIONS then return named({ lost = 1 }) end

local changed, told = {}, {}
for first = ask.since + 1, seq, MAX_MARKS do
  local slots, last = {}, math.min(seq, first + MAX_MARKS - 1)
  for number = first, last do slots[#slots + 1] = int(number % MAX_POSITIONS) end
  for i, mark in ipairs(redis.call('HMGET', K.trail, unpack(slots))) do
    local at, id = string.match(mark or '', '^(%d+) (.+)$')
    if tonumber(at) ~= first + i - 1 then return named({ lost = 1 }) end
    if not told[id] then changed[#changed + 1] = id end
    told[id] = true
  end
end

local rows, jobs = {}, {}
local function copy(id)
  local job = copied_job(id)
  if job then jobs[#jobs + 1] = job end
  for _, noun in ipairs(FAMILIES) do
    local family = K[noun]
    local text = redis.call('HGET', family, id)
    if text then rows[#rows + 1] = { noun, id, text } end
  end
end

local function after(key, last)
  return redis.call('XRANGE', key, last == '' and '-' or '(' .. last, '+', 'COUNT', ask.most)
end

local found = { epoch = epoch, seq = seq, changed = changed, final = 0 }
if ask.ids then
  found.entries, found.audit = after(K.stream, ask.entry), after(K.audit, ask.audit)
  local whole = #ask.ids + #changed <= ask.most
  for _, id in ipairs(ask.ids) do copy(id) end
  if whole then
    for _, id in ipairs(changed) do copy(id) end
  end
  found.rows, found.jobs, found.suspect, found.now_ms = rows, jobs, suspect, now_ms
  found.earlier = redis.call('HGETALL', K.lineage)
  if whole and #found.entries < ask.most and #found.audit < ask.most then found.final = 1 end
end
return named(found)
