#!lua
-- A process writes its journal there, and has copied operators' changes up to `copied`. Only a new
-- place takes a number: coming back says no more than when.
-- KEYS [1] slot  ARGV [1] epoch [2] mark [3] {id, host, path, copied} -> {'enlisted'} | {'amnesia'}
if amnesia() then return reply('amnesia') end
local ask = cjson.decode(ARGV[3])
local before = redis.call('HGET', K.journals, ask.id)
local known = before and cjson.decode(before) or {}
ask.last = now_ms
local record = cjson.encode(ask)
redis.call('HSET', K.journals, ask.id, record)
if known.host ~= ask.host or known.path ~= ask.path then
  publish('journals', ask.id, { 'record', record }, rise(ask.id))
end
return reply('enlisted')
