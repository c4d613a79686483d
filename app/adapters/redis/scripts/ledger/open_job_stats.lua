#!lua flags=no-writes
-- KEYS [1] slot -> {R, D, U, images held, micros held, ms the oldest is overdue, jobs collecting}
local open = read_fields(K.open, 'R', 'D', 'U', 'images', 'micros')
local first = redis.call('ZRANGE', K.due, 0, 0, 'WITHSCORES')
local lag = first[2] and math.max(now_ms - first[2], 0) or 0
local census = {}
for i, field in ipairs({ 'R', 'D', 'U', 'images', 'micros' }) do
  census[i] = tonumber(open[field] or 0)
end
census[6] = math.floor(lag)
census[7] = redis.call('ZCARD', K.collect)
return census
