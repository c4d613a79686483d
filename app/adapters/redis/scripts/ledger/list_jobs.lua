#!lua flags=no-writes
-- A user's jobs that still exist, newest first.
-- KEYS [1] slot  ARGV [1] user [2] limit -> {jobs = {record ...}}
local found = {}
for _, id in ipairs(redis.call('ZREVRANGE', K.jobs .. ARGV[1], 0, -1)) do
  if #found >= tonumber(ARGV[2]) then break end
  local fields = record(id)
  if #fields > 0 then found[#found + 1] = fields end
end
return named({ jobs = found })
