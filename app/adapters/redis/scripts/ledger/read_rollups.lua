#!lua flags=no-writes
-- Up to where entries are rolled up, and what there is to roll up. Times are Unix milliseconds.
-- KEYS [1] slot
-- -> {epoch?, quarantined = 1 or 0, from, hours, days, months, audited (0: never), attributed?,
--    oldest? (entry id), newest? (entry id), now_ms}
local stored = redis.call('MGET', K.epoch, K.suspect)
local epoch, quarantined = stored[1], stored[2]
local state = read_fields(K.rollups, 'epoch', 'from', 'hours', 'days', 'months', 'audited',
  'attributed')
if state.epoch ~= epoch then state = {} end  -- rebuilt since, by whatever version
local oldest = redis.call('XRANGE', K.stream, '-', '+', 'COUNT', 1)[1]
local newest = redis.call('XREVRANGE', K.stream, '+', '-', 'COUNT', 1)[1]
return named({
  epoch = epoch, quarantined = quarantined and 1 or 0,
  from = tonumber(state.from or 0), hours = tonumber(state.hours or 0),
  days = tonumber(state.days or 0), months = tonumber(state.months or 0),
  audited = tonumber(state.audited or 0), oldest = oldest and oldest[1], newest = newest and newest[1],
  attributed = tonumber(state.attributed), now_ms = now_ms,
})
