-- Which earlier job a request repeats (decision 21). A request whose Idempotency-Key is bound repeats
-- that job. Otherwise, of the jobs that the same API key started with the same body, in this order:
--
-- 1. the oldest whose answer nobody got: its caller left, or its process is silent, or its own retry
--    overtook it on the way (within OVERTAKEN_MS);
-- 2. none while it is unknown whether the callers of the others are still there: ask them first;
-- 3. for an SDK's retry (`x-stainless-retry-count` > 0): the newest whose caller has not received it,
--    until RETRY_JOIN_MS after its end, for a failure until FAILURE_TTL_MS;
-- 4. for any other request: the newest failure that is not retryable, until REPEAT_MS after it was last
--    told and FAILURE_TTL_MS after its end: some clients repeat any failure, without a retry header;
-- 5. none: it is a new request. A free failure that asked to be retried is never given to another.
--
-- `dedup` = {attempt, body, call?, is_sdk_retry?, fresh?, replay?, callers?}. `attempt` names key and
-- body; `call` is this request, which becomes the job's holder when it takes over; `fresh` accepts no
-- earlier failure; `callers` = {call = 'here' | 'left' | 'silent'} is what is known of earlier callers
-- (without it nobody is asked).

local FAILURE_TTL_MS = 60000  -- a failure answers a retry for so long; then a retry is a new attempt
local REPEAT_MS = 12000       -- clients without a retry header repeat 0.4 to 8 s after a failure
local OVERTAKEN_MS = 5000     -- a retry can have overtaken the request it repeats for so long
local DOUBT_MS = 5000         -- an answer can still be on its way for so long after the job's end

local function ms_since_end(job)
  return job.ended and now_ms - tonumber(job.ended)
end

-- A free failure that asked to be retried: the retry is a new attempt.
local function is_retryable_failure(job)
  if job.state ~= 'X' or not job.failure then return false end
  return cjson.decode(job.failure).retryable == true
end

-- Can this job still be the answer to a retry without an Idempotency-Key?
local function can_answer_retry(job)
  if is_retryable_failure(job) then return false end
  local age = ms_since_end(job)
  if not age then return true end
  return age <= RETRY_JOIN_MS and not (job.status == 'failed' and age > FAILURE_TTL_MS)
end

-- Did nobody get this job's answer? A silent process may have sent the answer of a job that ended.
local function lost(job, word)
  if job.abandoned or word == 'left' or (word == 'silent' and not job.ended) then return true end
  return job.overtook and now_ms - tonumber(job.overtook) <= OVERTAKEN_MS
end

local function is_caller_unknown(job)
  if job.received or job.status == 'failed' then return false end
  return not job.ended or ms_since_end(job) <= DOUBT_MS
end

-- Is this the failure that a client without retry headers repeats? A cancelled task is none.
local function is_recent_failure(job, dedup)
  if dedup.fresh or dedup.replay or job.replay or job.status ~= 'failed' then return false end
  if job.failure and cjson.decode(job.failure).code == 'task_cancelled' then return false end
  return now_ms - tonumber(job.told or job.ended) <= REPEAT_MS
end

-- From now on this request waits for the job. If it takes over, its own departure abandons the job.
local function join(id, dedup, takes_over)
  redis.call('HDEL', K.job .. id, 'abandoned')
  -- When only another retry came, the request that was overtaken is still on its way.
  if not dedup.is_sdk_retry then redis.call('HDEL', K.job .. id, 'overtook') end
  if redis.call('HGET', K.job .. id, 'status') == 'failed' then
    redis.call('HSET', K.job .. id, 'told', int(now_ms))
  end
  if takes_over and dedup.call then
    redis.call('HDEL', K.job .. id, 'received')
    redis.call('HSET', K.job .. id, 'holder', dedup.call)
  end
  return id
end

-- From now on this Idempotency-Key means this job, which is kept as long as the key. An `earlier` job
-- takes a number with it, so that a backup under way copies it again; a new one has just taken its own.
local function bind(dedup, id, earlier)
  redis.call('HSET', K.replay .. dedup.replay, 'job', id, 'body', dedup.body)
  redis.call('PEXPIRE', K.replay .. dedup.replay, IDEMPOTENCY_TTL_MS)
  local fields = { 'replay', dedup.replay, 'body', dedup.body, 'bound', int(now_ms) }
  if not earlier then
    write_job(id, unpack(fields))
  else
    local before = read_fields(K.job .. id, 'replay', 'tied')
    local seq = before.replay == dedup.replay and before.tied or next_seq(id)
    fields[#fields + 1] = 'tied'
    fields[#fields + 1] = int(seq)
    write_job(id, unpack(fields))
    number_last_change(tonumber(seq))
  end
  local ttl = redis.call('PTTL', K.job .. id)
  if ttl >= 0 and ttl < IDEMPOTENCY_TTL_MS then redis.call('PEXPIRE', K.job .. id, IDEMPOTENCY_TTL_MS) end
end

-- What the earlier identical requests left behind: {lost? (job), newest? (job), told? (failed job),
-- doubts = {call ...}}.
local function find_attempts(dedup)
  local found = { doubts = {} }
  local attempts, callers = K.attempt .. dedup.attempt, dedup.callers
  for _, id in ipairs(redis.call('ZREVRANGE', attempts, 0, -1)) do
    local job = read_fields(K.job .. id, 'state', 'status', 'ended', 'abandoned', 'overtook', 'failure',
      'replay', 'holder', 'received', 'told')
    local other = job.replay and dedup.replay and job.replay ~= dedup.replay
    if not job.state then
      redis.call('ZREM', attempts, id)
    elseif can_answer_retry(job) and not other then
      local holder = job.holder or id
      local word = callers and callers[holder]
      if lost(job, word) then
        found.lost = id
      elseif callers and not word and is_caller_unknown(job) then
        table.insert(found.doubts, holder)
      end
      if not job.received then found.newest = found.newest or id end
      if is_recent_failure(job, dedup) then found.told = found.told or id end
    end
  end
  return found
end

-- The job that this request's own Idempotency-Key means; or nil, and true if it had another body.
local function find_by_idempotency_key(dedup)
  local seen = read_fields(K.replay .. dedup.replay, 'job', 'body')
  if not seen.job then return nil end
  if seen.body ~= dedup.body then return nil, true end
  local job = read_fields(K.job .. seen.job, 'state', 'ended', 'failure', 'abandoned')
  local stale = job.state == 'X' and ms_since_end(job) > FAILURE_TTL_MS
  if not job.state or stale or is_retryable_failure(job) then return nil end
  return join(seen.job, dedup, job.abandoned)
end

-- The job this request repeats; or nil, the error that stands in the way of an answer if there is one,
-- and for `E.possible_duplicate` the calls whose callers must be asked first.
local function find_duplicate(dedup)
  if dedup.replay then
    local id, reused = find_by_idempotency_key(dedup)
    if id then return id end
    if reused then return nil, E.key_reused end
  end
  local found = find_attempts(dedup)
  if not found.lost and #found.doubts > 0 then return nil, E.possible_duplicate, found.doubts end
  local id = found.lost or (dedup.is_sdk_retry and found.newest)
  local takes_over = id
  id = id or found.told
  if not id then return nil end
  if dedup.replay then bind(dedup, id, true) end
  return join(id, dedup, takes_over)
end
