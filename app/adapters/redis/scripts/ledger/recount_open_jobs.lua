#!lua flags=no-writes
-- The open jobs as counted and as they are, and the windows that are kept.
-- KEYS [1] slot
-- -> {counters = {{field, counted, actual} ...}, labels = {label ...}, holding = {label of an open
--    job ...}, open_jobs}
local FIELDS = { 'R', 'D', 'U', 'images', 'micros' }
local counted = read_fields(K.open, unpack(FIELDS))
local actual = { R = 0, D = 0, U = 0, images = 0, micros = 0 }
local holding, held_in = {}, {}
local ids = redis.call('ZRANGE', K.due, 0, -1)
for _, id in ipairs(ids) do
  local job = read_fields(K.job .. id, 'state', 'n', 'unit', 'day', 'month')
  if OPEN[job.state] then
    actual[job.state] = actual[job.state] + 1
    actual.images = actual.images + job.n
    actual.micros = actual.micros + job.n * (job.unit or 0)
    holding[job.day], holding[job.month] = true, true
  end
end
local counters = {}
for i, field in ipairs(FIELDS) do
  counters[i] = named({
    field = field, counted = tonumber(counted[field] or 0), actual = actual[field],
  })
end
for label in pairs(holding) do held_in[#held_in + 1] = label end
return named({
  counters = counters, labels = redis.call('ZRANGEBYSCORE', K.windows, '(' .. int(now_ms), '+inf'),
  holding = held_in, open_jobs = #ids,
})
