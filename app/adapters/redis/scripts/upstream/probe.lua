#!lua flags=allow-oom
-- May this request find out whether the provider takes us again? One may in each gap.
-- KEYS [1] turns  ARGV [1] limits -> {1 or 0, traffic_view}
local h = health('fails', 'gap', 'next')
local open = tonumber(h.fails or 0) >= BREAKER_THRESHOLD
if open and now_ms < tonumber(h.next) then return { 0, traffic_view() } end
if open then redis.call('HSET', K.health, 'probing', 1, 'next', int(now_ms + h.gap)) end
return { 1, traffic_view() }
