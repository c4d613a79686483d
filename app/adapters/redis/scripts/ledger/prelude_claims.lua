-- Jobs that are claimed and given back, again and again: thousands are polled every few seconds.

local MAX_GRACE_MS = 120000  -- so long at most does a slot outlive its polled job's due time

-- Let a job's concurrency slots outlive its new due time by GRACE_MS at least. They end together, so
-- one of them tells for all; they are moved ahead so far that most polls need not move them.
local function keep_slots(id, job, at_ms)
  if job.state == 'U' then return end
  local ends_ms = (redis.call('ZSCORE', K.slots .. 'house', id) or 0) + 0
  if ends_ms > at_ms + GRACE_MS and ends_ms <= at_ms + MAX_GRACE_MS then return end
  for _, scope_key in ipairs(scope_keys_of(job)) do
    redis.call('ZADD', K.slots .. scope_key, at_ms + MAX_GRACE_MS, id)
  end
end

-- Set the due times of jobs, {time, job ...}.
local function set_due(due)
  if due[1] then redis.call('ZADD', K.due, unpack(due)) end
end
