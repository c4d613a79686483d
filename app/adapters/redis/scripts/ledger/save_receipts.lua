#!lua flags=allow-oom
-- Callers that hold their jobs were sent their whole answers, so no retry of theirs will come. Only
-- deduplication depends on it, so the journal is not told.
-- KEYS [1] slot  ARGV [1] epoch [2] position [3] {receipts = {{job, call} ...}} -> saved
if data_lost() then return fail(E.data_lost) end
for _, receipt in ipairs(cjson.decode(ARGV[3]).receipts) do
  local id, call = unpack(receipt)
  local job = read_fields(K.job .. id, 'state', 'holder')
  if job.state and call == (job.holder or id) then redis.call('HSET', K.job .. id, 'received', 1) end
end
return reply('saved')
