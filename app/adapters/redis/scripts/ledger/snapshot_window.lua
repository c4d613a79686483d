#!lua flags=no-writes
-- One window and what the open jobs hold in it, at one moment of the stream of entries.
-- KEYS [1] slot  ARGV [1] label [2] 'held' when open jobs may be in it
-- -> {last_entry? (its id), counters = {scope_key, packed ...}, held = {{scope_key, images, micros} ...}}
local by_scope, held = {}, {}
local ids = ARGV[2] == 'held' and redis.call('ZRANGE', K.due, 0, -1) or {}
for _, id in ipairs(ids) do
  local job = read_fields(K.job .. id, 'state', 'day', 'month', 'n', 'unit', 'key', 'user', 'team')
  if OPEN[job.state] and (job.day == ARGV[1] or job.month == ARGV[1]) then
    for _, scope_key in ipairs(scope_keys_of(job)) do
      local sum = by_scope[scope_key]
      if not sum then
        sum = { scope_key = scope_key, images = 0, micros = 0 }
        by_scope[scope_key] = sum
        held[#held + 1] = named(sum)
      end
      sum.images, sum.micros = sum.images + job.n, sum.micros + job.n * (job.unit or 0)
    end
  end
end
local last = redis.call('XREVRANGE', K.stream, '+', '-', 'COUNT', 1)[1]
return named({
  last_entry = last and last[1], counters = redis.call('HGETALL', K.window .. ARGV[1]), held = held,
})
