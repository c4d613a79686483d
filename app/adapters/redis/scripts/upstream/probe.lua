#!lua flags=allow-oom
-- May this request find out whether the provider accepts us again? One request may in each gap.
-- KEYS [1] turns  ARGV [1] limits -> {allowed = 1 or 0, traffic}
local h = health()
local open = tonumber(h.fails or 0) >= BREAKER_THRESHOLD
if open and now_ms < tonumber(h.next) then return named({ allowed = 0, traffic = traffic_view() }) end
if open then change_health('HSET', 'probing', 1, 'next', int(now_ms + h.gap)) end
return named({ allowed = 1, traffic = traffic_view() })
