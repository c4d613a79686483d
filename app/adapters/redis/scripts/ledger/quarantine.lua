#!lua
-- Close the ledger for a rebuild: from here on every other writing script refuses.
-- KEYS [1] slot -> {jobs = {record ...}} of the jobs in this copy that are open or have images pending
redis.call('SET', K.suspect, 'rebuilding')
local found = {}
for _, key in ipairs({ K.due, K.collect }) do
  for _, id in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    local fields = record(id)
    if #fields > 0 then found[#found + 1] = fields end
  end
end
return named({ jobs = found })
