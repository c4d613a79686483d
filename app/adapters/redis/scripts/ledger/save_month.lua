#!lua
-- Note that a journal's directory holds a month's entries. Once the directories of all journals that
-- are written now do, the entries may leave the stream.
-- KEYS [1] slot  ARGV [1] {epoch, label, record, digest, starts, ends, journal, live_ms}
-- -> {saved = 1, waiting = {journal ...}} | {saved = 0} (the ledger was rebuilt or closed meanwhile, or
--    another journal's directory holds other entries)
local ask = cjson.decode(ARGV[1])
local stored = redis.call('MGET', K.epoch, K.suspect)
if stored[1] ~= ask.epoch or stored[2] then return named({ saved = 0 }) end
local all = all_fields(K.months)
if all.epoch ~= ask.epoch then
  for field in pairs(all) do redis.call('HDEL', K.months, field) end
  redis.call('HSET', K.months, 'epoch', ask.epoch)
  all = {}
end
local before = all[ask.label]
if before and cjson.decode(before).digest ~= ask.digest then return named({ saved = 0 }) end
local there, holders = all['in:' .. ask.label] or '', {}
for id in string.gmatch(there, '%S+') do holders[id] = true end
if not holders[ask.journal] then
  holders[ask.journal] = true
  there = there == '' and ask.journal or there .. ' ' .. ask.journal
end
redis.call('HSET', K.months, ask.label, ask.record, 'in:' .. ask.label, there)
local waiting, journals = {}, redis.call('HGETALL', K.journals)
for i = 1, #journals, 2 do
  local last = cjson.decode(journals[i + 1]).last or 0
  if not holders[journals[i]] and now_ms - last < ask.live_ms then waiting[#waiting + 1] = journals[i] end
end
-- Months leave in order: before this one there is nothing in the stream, or what has begun to leave.
local upto = tonumber(all.upto or 0)
if #waiting == 0 and (upto == 0 or upto == ask.starts) then
  redis.call('HSET', K.months, 'upto', int(ask.ends))
end
return named({ saved = 1, waiting = waiting })
