#!lua
-- Register a gateway process, or its heartbeat. A process that joins is not registered while another
-- one keeps its pictures elsewhere. Those that fell silent are forgotten, even if the clock was set.
-- KEYS [1] slot  ARGV [1] {id, host, images, place} [2] silence in ms [3] 1 when it joins
-- -> '' or the record of a live gateway with another image store
local ask = cjson.decode(ARGV[1])
local other = ''
local flat = redis.call('HGETALL', K.gateways)
for i = 1, #flat, 2 do
  local id, text = flat[i], flat[i + 1]
  local its = cjson.decode(text)
  if math.abs(now_ms - its.last) > tonumber(ARGV[2]) then
    redis.call('HDEL', K.gateways, id)
  elseif id ~= ask.id and its.images ~= ask.images then
    other = text
  end
end
if other == '' or ARGV[3] ~= '1' then
  ask.last = now_ms
  redis.call('HSET', K.gateways, ask.id, cjson.encode(ask))
end
return other
