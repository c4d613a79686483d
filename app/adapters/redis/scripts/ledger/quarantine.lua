#!lua
-- Close the ledger for a rebuild: from here on every other writing script refuses.
-- KEYS [1] slot -> {epoch?, seq, earlier = {epoch, rebuilt up to ...}, jobs = {record ...}}: where the
--      copy stands from here on, and its jobs that are open or have images pending
redis.call('SET', K.suspect, 'rebuilding')
local stored = redis.call('MGET', K.epoch, K.seq)
local found = {}
for _, key in ipairs({ K.due, K.collect }) do
  for _, id in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    local fields = record(id)
    if #fields > 0 then found[#found + 1] = fields end
  end
end
return named({
  epoch = stored[1], seq = tonumber(stored[2] or 0), earlier = redis.call('HGETALL', K.lineage),
  jobs = found,
})
