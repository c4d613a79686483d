#!lua flags=allow-oom
-- The provider answered 429: everybody pauses, then goes on at half the rate. What was sent before
-- the pause echoes it: that lengthens the pause and says nothing new about the rate.
-- KEYS [1] turns  ARGV [1] limits [2] ms to pause [3] process [4] its requests of the last minute
-- -> traffic_view
report_requests(ARGV[3], ARGV[4])
local ends, rate, usual = throttle()
if now_ms > ends + 1000 then
  usual = usual or math.max(recent_requests(), MIN_USUAL_RPM)
  rate = math.min(rate or usual, limits.rpm or usual)
  redis.call('HSET', K.health, 'usual', int(usual), 'cut', int(math.max(rate / 2, MIN_RPM)))
end
redis.call('HSET', K.health, 'until', int(math.max(ends, now_ms + ARGV[2])))
return traffic_view()
