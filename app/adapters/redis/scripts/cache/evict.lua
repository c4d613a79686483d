#!lua
-- Free a variant that this job was making, or whose pictures it made and are gone. Its start is
-- removed too, so that the next request gets the same variant.
-- KEYS [1] pictures [2] starts  ARGV [1] job id [2] variant -> 1
for _, field in ipairs({ ARGV[2] .. ':making', ARGV[2] }) do
  local held = redis.call('HGET', KEYS[1], field)
  if held and string.match(held, '^%S+') == ARGV[1] then redis.call('HDEL', KEYS[1], field) end
end
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
