-- Jobs that are claimed and given back again and again: thousands are polled every few seconds.

local MAX_GRACE_MS = 120000  -- so long at most does a slot outlive its polled job's due time

-- When the concurrency slots of open jobs end, as texts; false for those without. The store's user may
-- be one of an earlier version, which may ask for one at a time only.
local function slot_ends(ids)
  local ends = redis.pcall('ZMSCORE', K.slots .. 'house', unpack(ids))
  if not ends.err then return ends end
  for i, id in ipairs(ids) do ends[i] = redis.call('ZSCORE', K.slots .. 'house', id) end
  return ends
end

-- A job in U has answered its caller and holds no slot.
local function move_slots(id, ends_ms)
  local job = read_fields(K.job .. id, 'state', 'key', 'user', 'team')
  if job.state == 'U' then return end
  for _, scope_key in ipairs(scope_keys_of(job)) do
    redis.call('ZADD', K.slots .. scope_key, ends_ms, id)
  end
end

-- Set the due times of jobs, {time, job ...}. Their slots outlive these by GRACE_MS at least: a job's
-- slots end together, and they are moved ahead so far that most polls need not move them.
local function set_due(due)
  if not due[1] then return end
  redis.call('ZADD', K.due, unpack(due))
  local ids = {}
  for i = 2, #due, 2 do ids[i / 2] = due[i] end
  for i, ends in ipairs(slot_ends(ids)) do
    local at_ms, ends_ms = due[2 * i - 1], (ends or 0) + 0
    if ends_ms <= at_ms + GRACE_MS or ends_ms > at_ms + MAX_GRACE_MS then
      move_slots(ids[i], at_ms + MAX_GRACE_MS)
    end
  end
end
