#!lua flags=no-writes
-- The open jobs as counted and as they are, and the windows that are kept.
-- KEYS [1] slot
-- -> {{{field, counter, recount} ...}, {label ...}, {label of an open job ...}, open jobs}
local counter = read_fields(K.open, 'R', 'D', 'U', 'images', 'micros')
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
local rows = {}
for field, count in pairs(actual) do
  rows[#rows + 1] = { field, tonumber(counter[field] or 0), count }
end
local labels = redis.call('ZRANGEBYSCORE', K.windows, '(' .. int(now_ms), '+inf')
for label in pairs(holding) do held_in[#held_in + 1] = label end
return { rows, labels, held_in, #ids }
