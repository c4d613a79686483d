#!lua
-- Close the books for a rebuild: from here on every other writing script refuses.
-- KEYS [1] slot -> {record ...} of the jobs that are open, or have images pending, in this copy
redis.call('SET', K.suspect, 'rebuilding')
local found = {}
for _, key in ipairs({ K.due, K.collect }) do
  for _, id in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    local fields = record(id)
    if #fields > 0 then found[#found + 1] = fields end
  end
end
return found
