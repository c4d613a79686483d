#!lua flags=allow-oom
-- Answers that were sent whole to the callers who hold their jobs: no retry of theirs is to come.
-- Nothing depends on it but that, so the journal need not know.
-- KEYS [1] slot  ARGV [1] epoch [2] position [3] {receipts = {{job, call}, ...}} -> {'received'} | {'data_loss'}
if data_lost() then return reply('data_loss') end
for _, receipt in ipairs(cjson.decode(ARGV[3]).receipts) do
  local id, call = receipt[1], receipt[2]
  local job = read_fields(K.job .. id, 'state', 'holder')
  if job.state and call == (job.holder or id) then redis.call('HSET', K.job .. id, 'received', 1) end
end
return reply('received')
