#!lua
-- Put whole rollups in their place. Nothing is added up here: making one twice changes nothing.
-- KEYS [1] slot  ARGV [1] {epoch, keys = {'<name>:<view>' ...}, from, attributed, advance = {level =
--      {before, after}}, expire = {'<name>:<view>' = time ...}}: what is not needed for others any more
--      [2 ...] the rollup of each key, '' for none
-- -> 1 | 0 (another process was faster, or the ledger was rebuilt meanwhile)
local MIN_TTL_MS = 600000
local ask = cjson.decode(ARGV[1])
if redis.call('GET', K.epoch) ~= ask.epoch then return 0 end
if redis.call('HGET', K.rollups, 'epoch') ~= ask.epoch then  -- rebuilt since
  redis.call('HDEL', K.rollups, 'from', 'hours', 'days', 'months', 'audited', 'attributed')
end
for level, moved in pairs(ask.advance) do
  if tonumber(redis.call('HGET', K.rollups, level) or 0) ~= moved[1] then return 0 end
end
for i, name in ipairs(ask.keys) do
  if ARGV[i + 1] ~= '' then
    redis.call('SET', K.rollup .. name, ARGV[i + 1])
  elseif redis.call('EXISTS', K.rollup .. name) == 1 then
    redis.call('SET', K.rollup .. name, '', 'PX', MIN_TTL_MS)  -- of another epoch
  end
end
for name, at_ms in pairs(ask.expire) do
  redis.call('PEXPIREAT', K.rollup .. name, int(math.max(at_ms, now_ms + MIN_TTL_MS)))
end
redis.call('HSET', K.rollups, 'epoch', ask.epoch, 'from', int(ask.from))
if not redis.call('HGET', K.rollups, 'attributed') then
  redis.call('HSET', K.rollups, 'attributed', int(ask.attributed))
end
for level, moved in pairs(ask.advance) do redis.call('HSET', K.rollups, level, int(moved[2])) end
return 1
