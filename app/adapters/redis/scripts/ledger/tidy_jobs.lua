#!lua
-- Drop what nobody asks of jobs that ended long ago, a page of entries at a time (decision 59). Jobs with
-- images that came late, were given up or are still to come stay as they are. Doing it twice changes nothing.
-- KEYS [1] slot  ARGV [1] epoch [2] entries written from then on [3] and before then (Unix milliseconds)
--      [4] entries of a page
-- -> {read (entries of the page), tidied (jobs)}
local GONE = {
  'calls', 'seq', 'sent', 'over', 'day', 'month', 'progress', 'dispatched', 'entry', 'claims', 'shift',
  'abandoned', 'overtook', 'holder', 'received', 'told', 'image_rate', 'slot', 'counted_as',
}
local OF_PART = { upstream = true, request = true, told = true, result = true, doubt = true, denied = true }
local LATE = { pending = true, picture = true, lost = true, tried = true }
local nothing = named({ read = 0, tidied = 0 })
local stored = redis.call('MGET', K.epoch, K.suspect, K.tidied)
if stored[1] ~= ARGV[1] or stored[2] then return nothing end
local epoch, last = string.match(stored[3] or '', '^(%S+) (%S+)$')
local from = ARGV[2]
if epoch == ARGV[1] and seq_of(last) >= tonumber(from) then from = '(' .. last end

-- The pictures without the names of their fields, which are the same in every job.
local function shorten(text)
  local short = {}
  for i, picture in ipairs(cjson.decode(text)) do
    short[i] = { picture.name, picture.media_type, picture.width, picture.height }
    if picture.revised_prompt ~= cjson.null then short[i][5] = picture.revised_prompt end
  end
  return #short > 0 and string.gsub(cjson.encode(short), '\\/', '/')
end

local function is_bound(job)
  return job.bound and now_ms - tonumber(job.bound) < 2 * IDEMPOTENCY_TTL_MS
end

local function tidy(id)
  local key = K.job .. id
  local job, gone = all_fields(key), { unpack(GONE) }
  if not job.state or OPEN[job.state] or not job.ended or not job.entry then return 0 end
  for field in pairs(job) do
    local kind = string.match(field, '^(%l+):')
    if LATE[kind] then return 0 end
    if OF_PART[kind] then gone[#gone + 1] = field end
  end
  if not is_bound(job) then
    for _, field in ipairs({ 'replay', 'body', 'bound', 'tied' }) do gone[#gone + 1] = field end
  end
  local short = job.pictures and shorten(job.pictures)
  if short then
    gone[#gone + 1] = 'pictures'
    redis.call('HSET', key, 'pics', short)
  end
  redis.call('HDEL', key, unpack(gone))
  -- An earlier version's scripts name a key after it.
  redis.call('HSET', key, 'attempt', '-')
  return 1
end

local page, tidied = redis.call('XRANGE', K.stream, from, int(ARGV[3] - 1), 'COUNT', ARGV[4]), 0
for _, entry in ipairs(page) do
  local fields, own = entry[2], {}
  for i = 1, #fields, 2 do own[fields[i]] = fields[i + 1] end
  if own.kind == 'settle' or own.kind == 'release' then tidied = tidied + tidy(own.job) end
end
if #page == 0 then return nothing end
redis.call('SET', K.tidied, ARGV[1] .. ' ' .. page[#page][1])
return named({ read = #page, tidied = tidied })
