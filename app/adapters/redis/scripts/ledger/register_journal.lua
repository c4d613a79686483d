#!lua
-- A process writes its journal there, and has copied operators' changes up to `copied`. Only a new
-- place takes a number: coming back says no more than when.
-- KEYS [1] slot  ARGV [1] epoch [2] position [3] {id, host, path, copied} -> {'enlisted'} | {'data_loss'}
if data_lost() then return reply('data_loss') end
local ask = cjson.decode(ARGV[3])
local before = redis.call('HGET', K.journals, ask.id)
local known = before and cjson.decode(before) or {}
ask.last = now_ms
local record = cjson.encode(ask)
redis.call('HSET', K.journals, ask.id, record)
if known.host ~= ask.host or known.path ~= ask.path then
  publish_change('journals', ask.id, { 'record', record }, next_seq(ask.id))
end
return reply('enlisted')
