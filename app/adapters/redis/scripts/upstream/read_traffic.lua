#!lua flags=allow-oom
-- How the provider's traffic stands; and what this process added to it.
-- KEYS [1] turns  ARGV [1] limits [2] process, or '' [3] its requests of the last minute -> traffic_view
if ARGV[2] ~= '' then report_requests(ARGV[2], ARGV[3]) end
return traffic_view()
