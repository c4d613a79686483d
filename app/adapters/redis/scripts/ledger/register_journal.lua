#!lua
-- Register the journal that a process writes, and up to where it has copied operators' changes. Only
-- a new location takes a sequence number; a known one only updates its time.
-- KEYS [1] slot  ARGV [1] epoch [2] position [3] {id, host, path, copied} -> registered
if data_lost() then return fail(E.data_lost) end
local ask = cjson.decode(ARGV[3])
local before = redis.call('HGET', K.journals, ask.id)
local known = before and cjson.decode(before) or {}
ask.last = now_ms
local record = cjson.encode(ask)
redis.call('HSET', K.journals, ask.id, record)
if known.host ~= ask.host or known.path ~= ask.path then
  publish_change('journals', ask.id, { 'record', record }, next_seq(ask.id))
end
return reply('registered')
