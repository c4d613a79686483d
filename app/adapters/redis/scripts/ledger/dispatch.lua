#!lua flags=allow-oom
-- R -> D, written before the first byte leaves: from here on, silence may mean a bill. An overdue
-- reservation that another process has claimed is for that one to release, and is never sent.
-- KEYS [1] slot  ARGV [1] epoch [2] position [3] {job, lease_ms}
-- -> dispatched | kept (the job is not in R, or was claimed)
if data_lost() then return fail(E.data_lost) end
local ask = cjson.decode(ARGV[3])
local job = read_fields(K.job .. ask.job, 'state', 'claims', 'key', 'user', 'team', 'dispatched', 'sent')
if job.state ~= 'R' or job.claims then
  if job.sent then
    emit_change('job', ask.job, { 'state', 'D', 'dispatched', job.dispatched }, job.sent)
  end
  return reply('kept')
end
local seq = next_seq(ask.job)
write_job(ask.job, 'state', 'D', 'dispatched', int(now_ms), 'sent', int(seq))
number_last_change(seq)
redis.call('HINCRBY', K.open, 'R', -1)
redis.call('HINCRBY', K.open, 'D', 1)
schedule(ask.job, job, now_ms + ask.lease_ms)
return reply('dispatched')
