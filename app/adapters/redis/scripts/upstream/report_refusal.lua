#!lua flags=allow-oom
-- The provider refused our key or our balance. From the third time in a row on, only a probe now and
-- then is sent; a probe that fails doubles the gap to the next one.
-- KEYS [1] turns  ARGV [1] limits [2] code [3] ms since it last accepted a request of this process, or
-- -1 -> traffic
local h = health()
local fails, taken_ago = tonumber(h.fails or 0), tonumber(ARGV[3])
if taken_ago >= 0 and now_ms - taken_ago > tonumber(h.failed or 0) then fails = 0 end
fails = fails + 1
local gap = fails == BREAKER_THRESHOLD and limits.probe_ms
if fails > BREAKER_THRESHOLD and h.probing then gap = math.min(2 * h.gap, MAX_PROBE_GAP_MS) end
if gap then
  change_health('HSET', 'gap', int(gap), 'next', int(now_ms + gap))
  change_health('HDEL', 'probing')
end
change_health('HSET', 'fails', int(fails), 'failed', int(now_ms), 'code', ARGV[2])
return traffic_view()
