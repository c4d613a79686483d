#!lua flags=allow-oom
-- The provider accepted a request: if that was sent after the last refusal, key and balance are good.
-- KEYS [1] turns  ARGV [1] limits [2] ms since it was sent -> traffic
if now_ms - ARGV[2] > tonumber(health().failed or 0) then
  change_health('HDEL', 'fails', 'failed', 'code', 'gap', 'next', 'probing')
end
return traffic_view()
