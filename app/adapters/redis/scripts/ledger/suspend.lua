#!lua
-- Close the books for a rebuild: from here on every other writing script refuses.
-- KEYS [1] slot -> {record ...} of the jobs that are open in this copy
redis.call('SET', K.suspect, 'rebuilding')
local found = {}
for _, id in ipairs(redis.call('ZRANGE', K.due, 0, -1)) do
  local fields = record(id)
  if #fields > 0 then found[#found + 1] = fields end
end
return found
