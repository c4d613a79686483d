#!lua
-- A gateway process is there. One that joins is not entered while another one at work keeps its
-- pictures elsewhere. Forgets those that fell silent, by either side of a clock that was set.
-- KEYS [1] slot  ARGV [1] {id, host, images, place} [2] silence in ms [3] 1 when it joins
-- -> record of a gateway at work with another image store, or ''
local ask = cjson.decode(ARGV[1])
local other = ''
local all = redis.call('HGETALL', K.gateways)
for i = 1, #all, 2 do
  local its = cjson.decode(all[i + 1])
  if math.abs(now_ms - its.last) > tonumber(ARGV[2]) then
    redis.call('HDEL', K.gateways, all[i])
  elseif all[i] ~= ask.id and its.images ~= ask.images then
    other = all[i + 1]
  end
end
if other == '' or ARGV[3] ~= '1' then
  ask.last = now_ms
  redis.call('HSET', K.gateways, ask.id, cjson.encode(ask))
end
return other
