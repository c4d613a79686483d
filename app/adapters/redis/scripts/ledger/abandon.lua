#!lua
-- The caller left without its answer: the next identical request joins this job. Of several callers
-- only the departure of the job's holder counts.
-- KEYS [1] slot  ARGV [1] epoch [2] position [3] {job, call?}
-- -> abandoned | held (by another call) | missing
if data_lost() then return fail(E.data_lost) end
local ask = cjson.decode(ARGV[3])
local job = read_fields(K.job .. ask.job, 'state', 'attempt', 'created', 'holder')
if not job.state then return reply('missing') end
if ask.call and ask.call ~= (job.holder or ask.job) then return reply('held') end
write_job(ask.job, 'abandoned', 1)
local attempts = K.attempt .. job.attempt
redis.call('ZADD', attempts, job.created, ask.job)
if redis.call('PTTL', attempts) < RETRY_JOIN_MS then
  redis.call('PEXPIRE', attempts, OPEN[job.state] and IDEMPOTENCY_TTL_MS or RETRY_JOIN_MS)
end
return reply('abandoned')
