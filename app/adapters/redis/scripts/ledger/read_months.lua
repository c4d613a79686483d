#!lua flags=no-writes
-- The months whose entries are in files, and up to when entries may have left the stream.
-- KEYS [1] slot
-- -> {epoch?, quarantined = 1 or 0, upto (Unix milliseconds, 0: none has), months = {{label, record as
--     JSON, ids of the journals with its file} ...}, now_ms}
local stored = redis.call('MGET', K.epoch, K.suspect)
local epoch, quarantined = stored[1], stored[2]
local all, months = all_fields(K.months), {}
if all.epoch ~= epoch then all = {} end  -- rebuilt since: everything is in the stream again
for label, text in pairs(all) do
  if string.match(label, '^%d+%-%d+$') then
    months[#months + 1] = { label, text, all['in:' .. label] or '' }
  end
end
return named({
  epoch = epoch, quarantined = quarantined and 1 or 0, upto = tonumber(all.upto or 0),
  months = months, now_ms = now_ms,
})
