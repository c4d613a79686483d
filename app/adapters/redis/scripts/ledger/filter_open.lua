#!lua flags=no-writes
-- Which of these jobs are still to be sent, or running at the provider.
-- KEYS [1] slot  ARGV job ids
-- -> {jobs = {id ...}}
-- errors: data_lost (then nothing is known)
local stored = redis.call('MGET', K.epoch, K.suspect)
local epoch, quarantined = stored[1], stored[2]
if not epoch or quarantined then return fail(E.data_lost) end
local open = {}
for _, id in ipairs(ARGV) do
  local state = redis.call('HGET', K.job .. id, 'state')
  if state == 'R' or state == 'D' then open[#open + 1] = id end
end
return named({ jobs = open })
