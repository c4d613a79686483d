#!lua flags=no-writes
-- KEYS [1] slot
-- -> {R, D, U, images, micros, lag_ms (the oldest is overdue by), collecting (jobs)}
local stats = { lag_ms = 0, collecting = redis.call('ZCARD', K.collect) }
local open = read_fields(K.open, 'R', 'D', 'U', 'images', 'micros')
for _, field in ipairs({ 'R', 'D', 'U', 'images', 'micros' }) do
  stats[field] = tonumber(open[field] or 0)
end
local due_ms = redis.call('ZRANGE', K.due, 0, 0, 'WITHSCORES')[2]
if due_ms then stats.lag_ms = math.floor(math.max(now_ms - due_ms, 0)) end
return named(stats)
