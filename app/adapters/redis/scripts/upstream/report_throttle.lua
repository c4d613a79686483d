#!lua flags=allow-oom
-- The provider answered 429: all processes pause, then go on at half the rate. A 429 for a request
-- that was sent before the pause lengthens the pause, but does not cut the rate again.
-- KEYS [1] turns  ARGV [1] limits [2] ms to pause [3] process [4] its requests of the last minute
-- -> traffic
report_requests(ARGV[3], ARGV[4])
local ends, rate, usual = throttle()
if now_ms > ends + 1000 then
  usual = usual or math.max(recent_requests(), MIN_USUAL_RPM)
  rate = math.min(rate or usual, limits.rpm or usual)
  change_health('HSET', 'usual', int(usual), 'cut', int(math.max(rate / 2, MIN_RPM)))
end
change_health('HSET', 'until', int(math.max(ends, now_ms + ARGV[2])))
return traffic_view()
