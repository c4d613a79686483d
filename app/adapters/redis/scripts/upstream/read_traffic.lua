#!lua flags=allow-oom
-- Report this process's requests, and read how the traffic to the provider stands.
-- KEYS [1] turns  ARGV [1] limits [2] process, or '' [3] its requests of the last minute -> traffic
if ARGV[2] ~= '' then report_requests(ARGV[2], ARGV[3]) end
return traffic_view()
