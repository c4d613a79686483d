#!lua flags=allow-oom
-- Lease the jobs that are due, the most overdue first, by moving their due time ahead. With `polls`
-- there is room for so many polls only, by provider ('' is the main one; one that is not named has
-- room for all): jobs that need one and find none left stay as they are.
-- Then so many due jobs are looked at in one call, from the one of a rank (`first`) on.
-- KEYS [1] slot  ARGV [1] epoch [2] position [3] {limit, lease_ms, polls?, first?}
-- -> claimed {polls_left (due, but without room, by provider), rooms? (polls that are left), next?
--    (`first` of the next call, where there may be more),
--    claims = {{token, late_ms, age_ms, job, status, progress, the rest of the record as JSON} ...}}
if data_lost() then return fail(E.data_lost) end
local ask = cjson.decode(ARGV[3])
local MAX_SCANNED = 128
local rooms, left = ask.polls, {}

local function fits(flat)
  local job = {}
  for i = 1, #flat, 2 do job[flat[i]] = flat[i + 1] end
  local provider = job.provider or ''
  local room = rooms[provider]
  if not room then return true end
  local polls = count_polls(job)
  if polls > 0 and room == 0 then
    left[provider] = (left[provider] or 0) + polls
    return false
  end
  rooms[provider] = math.max(room - polls, 0)
  return true
end

-- When a job began (nil: it is gone), its status and its progress. These two and the claims, which polls
-- change, are taken out of the record. No table is made: the fields are many, and so are the jobs.
local function read_record(flat)
  local state, created, dispatched, shift, status, progress = nil, 0, nil, 0, nil, '0'
  local i, last = 1, #flat
  while i < last do
    local field, value, taken = flat[i], flat[i + 1], false
    if field == 'state' then
      state = value
    elseif field == 'created' then
      created = value
    elseif field == 'dispatched' then
      dispatched = value
    elseif field == 'shift' then
      shift = value
    elseif field == 'status' then
      status, taken = value, true
    elseif field == 'progress' then
      progress, taken = value, true
    elseif field == 'claims' then
      taken = true
    end
    if taken then
      flat[i], flat[i + 1] = flat[last - 1], flat[last]
      flat[last - 1], flat[last], last = nil, nil, last - 2
    else
      i = i + 2
    end
  end
  return state and (dispatched or created) + shift, status, progress
end

local first, most = ask.first or 0, rooms and MAX_SCANNED or ask.limit
local due = redis.call('ZRANGEBYSCORE', K.due, '-inf', int(now_ms), 'WITHSCORES', 'LIMIT', first, most)
local claims, leased, passed = {}, {}, 0
for i = 1, #due, 2 do
  if #claims == ask.limit then break end
  local id, due_ms = due[i], due[i + 1]
  local flat = record(id)
  local began, status, progress = read_record(flat)
  if not began then
    redis.call('ZREM', K.due, id)
  elseif rooms and not fits(flat) then
    passed = passed + 1
  else
    leased[#leased + 1], leased[#leased + 2] = now_ms + ask.lease_ms, id
    local token = redis.call('HINCRBY', K.job .. id, 'claims', 1)
    claims[#claims + 1] = {
      token, math.floor(now_ms - due_ms), math.floor(now_ms - began), id, status, progress,
      cjson.encode(flat),
    }
  end
end
set_due(leased)
return reply('claimed', {
  polls_left = named(left), rooms = rooms and named(rooms),
  next = rooms and #due == 2 * most and first + passed or nil, claims = claims,
})
