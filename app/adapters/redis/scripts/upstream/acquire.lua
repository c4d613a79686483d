#!lua
-- Grant a turn at the provider: at most `rpm` starts in any minute, `concurrency` jobs at once.
-- A turn is given ahead of time, so that waiters go in order and wake once.
-- KEYS [1] turns [2] busy  ARGV [1] job id [2] rpm or '' [3] concurrency or '' [4] lease ms
--      [5] ms the caller can wait
-- -> {'granted', ms to wait first} | {'full', 0} | {'late', ms it would have been}
local id, rpm, concurrency = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if concurrency then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', int(now_ms))
  local own = redis.call('ZSCORE', KEYS[2], id)
  if not own and redis.call('ZCARD', KEYS[2]) >= concurrency then return { 'full', 0 } end
end
local start = now_ms
if rpm then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', int(now_ms - 60000))
  local own = redis.call('ZSCORE', KEYS[1], id)
  local blocking = redis.call('ZREVRANGE', KEYS[1], rpm - 1, rpm - 1, 'WITHSCORES')[2]
  if own then
    start = tonumber(own)
  elseif blocking then
    start = math.max(now_ms, blocking + 60000)
  end
  if start - now_ms > tonumber(ARGV[5]) then return { 'late', start - now_ms } end
  redis.call('ZADD', KEYS[1], int(start), id)
  redis.call('PEXPIRE', KEYS[1], int(start - now_ms + 60000))
end
if concurrency then
  redis.call('ZADD', KEYS[2], int(now_ms + ARGV[4]), id)
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
return { 'granted', math.max(start - now_ms, 0) }
