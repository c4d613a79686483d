#!lua
-- Find this request's variant of a cache entry, and what is in it.
-- KEYS [1] pictures [2] starts
-- ARGV [1] job id [2] variants [3] ttl ms [4] lease ms
--      [5] greatest age accepted in ms, '' for any [6] '' | no-cache | only-if-cached
--      [7] 1 when this repeats the latest request, so that it gets the same variant
--      [8] a job known to make nothing any more, whose lease may be taken over; or ''
-- -> {outcome = 'hit', variant, job, age_ms, made_ms, pictures}
--    {outcome = 'joined', variant, job, lease_age_ms} (that job is making the pictures)
--    {outcome = 'miss', variant} (this job makes them now) | {outcome = 'occupied'} (a job that must make
--    its own pictures finds another at work) | {outcome = 'empty'} (only-if-cached, and it is not)
local id, variants, ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local oldest = math.min(ttl, tonumber(ARGV[5]) or ttl)
local directive = ARGV[6]

-- What is in a slot: pictures, and the job that makes new ones.
local function read_slot(slot)
  return unpack(redis.call('HMGET', KEYS[1], slot, slot .. ':making'))
end

local function made(slot, packed)
  if not packed then return nil end
  local job, at, pictures = string.match(packed, '^(%S+) (%d+) (.*)$')
  local age = math.max(now_ms - at, 0)
  if age > oldest or age >= ttl then return nil end
  return named({
    outcome = 'hit', variant = slot, job = job, age_ms = age, made_ms = tonumber(at), pictures = pictures,
  })
end

local function making(slot, lease)
  if not lease then return nil end
  local job, ends = string.match(lease, '^(%S+) (%d+)$')
  if job == id or job == ARGV[8] or tonumber(ends) <= now_ms then return nil end
  -- A lease from the future: the clock was set back, so its age is unknown and counts as the longest.
  local age = now_ms + ARGV[4] - ends
  return named({
    outcome = 'joined', variant = slot, job = job, lease_age_ms = age >= 0 and age or tonumber(ARGV[4]),
  })
end

redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now_ms - 2000)
local repeated = ARGV[7] == '1'
local before = redis.call('ZRANK', KEYS[2], id) or redis.call('ZCARD', KEYS[2])
if repeated then before = math.max(before - 1, 0) end
local slot = before % variants
local packed, lease = read_slot(slot)

if directive == 'only-if-cached' then
  local found = made(slot, packed) or making(slot, lease)
  for other = 0, variants - 1 do found = found or made(other, (read_slot(other))) end
  for other = 0, variants - 1 do found = found or making(other, select(2, read_slot(other))) end
  return found or named({ outcome = 'empty' })
end

if not repeated then
  redis.call('ZADD', KEYS[2], 'NX', now_ms, id)
  redis.call('PEXPIRE', KEYS[2], 2000)
end
if directive == 'no-cache' then
  if making(slot, lease) then return named({ outcome = 'occupied' }) end
else
  local found = made(slot, packed) or making(slot, lease)
  if found then return found end
end
redis.call('HSET', KEYS[1], slot .. ':making', id .. ' ' .. int(now_ms + ARGV[4]))
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
return named({ outcome = 'miss', variant = slot })
