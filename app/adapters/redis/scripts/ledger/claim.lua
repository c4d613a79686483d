#!lua flags=allow-oom
-- Lease the jobs that are due, the most overdue first, by moving their due time ahead. With `polls`
-- there is room for so many polls only, by provider ('' is the main one; one that is not named has
-- room for all): jobs that need one and find none left stay as they are.
-- Then so many due jobs are looked at in one call, from the one of a rank (`first`) on.
-- KEYS [1] slot  ARGV [1] epoch [2] position [3] {limit, lease_ms, polls?, first?}
-- -> claimed {polls_left (due, but without room, by provider), rooms? (polls that are left), next?
--    (`first` of the next call, where there may be more),
--    claims = {{job, late_ms, token, age_ms, progress?, record (as JSON; empty where polls differ)} ...}}
if data_lost() then return fail(E.data_lost) end
local ask = cjson.decode(ARGV[3])
local MAX_SCANNED = 128
local rooms, left = ask.polls, {}

local function fits(job)
  local provider = job.provider or ''
  local room = rooms and rooms[provider]
  if not room then return true end
  local polls = count_polls(job)
  if polls > 0 and room == 0 then
    left[provider] = (left[provider] or 0) + polls
    return false
  end
  rooms[provider] = math.max(room - polls, 0)
  return true
end

-- A job's fields as a table; and as JSON, in which those are empty that nearly every poll changes.
local function read_whole(id)
  local flat, job = record(id), {}
  for i = 1, #flat, 2 do
    local field = flat[i]
    job[field] = flat[i + 1]
    if field == 'claims' or field == 'progress' then flat[i + 1] = '' end
  end
  return job, flat
end

local first, most = ask.first or 0, rooms and MAX_SCANNED or ask.limit
local due = redis.call('ZRANGEBYSCORE', K.due, '-inf', int(now_ms), 'WITHSCORES', 'LIMIT', first, most)
local claims, leased, passed = {}, {}, 0
for i = 1, #due, 2 do
  if #claims == ask.limit then break end
  local id, due_ms = due[i], due[i + 1]
  local job, flat = read_whole(id)
  if not job.state then
    redis.call('ZREM', K.due, id)
  elseif not fits(job) then
    passed = passed + 1
  else
    local token = redis.call('HINCRBY', K.job .. id, 'claims', 1)
    local at_ms = now_ms + ask.lease_ms
    leased[#leased + 1], leased[#leased + 2] = at_ms, id
    keep_slots(id, job, at_ms)
    local age_ms = now_ms - (job.dispatched or job.created) - (job.shift or 0)
    claims[#claims + 1] = named({
      job = id, late_ms = math.floor(now_ms - due_ms), token = token, age_ms = math.floor(age_ms),
      progress = job.progress, record = cjson.encode(flat),
    })
  end
end
set_due(leased)
return reply('claimed', {
  polls_left = named(left), rooms = rooms and named(rooms),
  next = rooms and #due == 2 * most and first + passed or nil, claims = claims,
})
