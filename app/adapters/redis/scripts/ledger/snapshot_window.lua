#!lua flags=no-writes
-- One window and what the open jobs hold in it, at one moment of the stream.
-- KEYS [1] slot  ARGV [1] label [2] 'held' when open jobs may be in it
-- -> {last entry id or false, {scope_key, packed, ...}, {{scope_key, images, micros} ...}}
local held = {}
local ids = ARGV[2] == 'held' and redis.call('ZRANGE', K.due, 0, -1) or {}
for _, id in ipairs(ids) do
  local job = read_fields(K.job .. id, 'state', 'day', 'month', 'n', 'unit', 'key', 'user', 'team')
  if OPEN[job.state] and (job.day == ARGV[1] or job.month == ARGV[1]) then
    for _, scope_key in ipairs(scope_keys_of(job)) do
      local sum = held[scope_key] or { scope_key, 0, 0 }
      sum[2], sum[3] = sum[2] + job.n, sum[3] + job.n * (job.unit or 0)
      held[scope_key] = sum
    end
  end
end
local sums = {}
for _, sum in pairs(held) do sums[#sums + 1] = sum end
local last = redis.call('XREVRANGE', K.stream, '+', '-', 'COUNT', 1)
return { last[1] and last[1][1] or false, redis.call('HGETALL', K.window .. ARGV[1]), sums }
