#!lua
-- Free a slot this job was making, or whose pictures it made and are gone; and its start with it,
-- so that the next request finds the same slot.
-- KEYS [1] pictures [2] starts  ARGV [1] job id [2] slot -> 1
for _, field in ipairs({ ARGV[2] .. ':making', ARGV[2] }) do
  local held = redis.call('HGET', KEYS[1], field)
  if held and string.match(held, '^%S+') == ARGV[1] then redis.call('HDEL', KEYS[1], field) end
end
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
