#!lua flags=no-writes
-- Some of a user's jobs that still exist, newest first.
-- KEYS [1] slot  ARGV [1] user [2] how many [3] the rank of the first -> {jobs = {record ...}, ranks (read)}
local MAX_RANKS = 50
local ranks = math.min(tonumber(ARGV[2]), MAX_RANKS)
local ids = redis.call('ZREVRANGE', K.jobs .. ARGV[1], ARGV[3], ARGV[3] + ranks - 1)
local found = {}
for _, id in ipairs(ids) do
  local fields = record(id)
  if #fields > 0 then found[#found + 1] = fields end
end
return named({ jobs = found, ranks = #ids })
