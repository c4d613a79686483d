#!lua flags=no-writes
-- Which of these jobs still are to be sent, or run at the provider.
-- KEYS [1] slot  ARGV job ids -> {job id ...}, or false while nothing can be told: the books are lost
local stored = redis.call('MGET', K.epoch, K.suspect)
if not stored[1] or stored[2] then return false end
local found = {}
for _, id in ipairs(ARGV) do
  local state = redis.call('HGET', K.job .. id, 'state')
  if state == 'R' or state == 'D' then found[#found + 1] = id end
end
return found
