#!lua
-- Of all processes one does something once in a period.
-- KEYS [1] slot  ARGV [1] what [2] period in ms
-- -> {taken = 1 or 0}
local key = K.noticed .. 'turn ' .. ARGV[1]
local taken = redis.call('SET', key, int(now_ms), 'NX', 'PX', ARGV[2])
return named({ taken = taken and 1 or 0 })
