#!lua flags=allow-oom
-- Grant polls that may be made now. Polls always have their floor. They get more only while no submit
-- waits for its start, but never the last quarter of the rate nor a whole minute's worth at once: the
-- next submit must not find the minute used up.
-- KEYS [1] turns  ARGV [1] limits [2] a name for these polls [3] how many are wanted
-- -> how many are granted
local granted = tonumber(ARGV[3])
local function count(key, from, to)
  return redis.call('ZCOUNT', key, '(' .. int(from), to)
end

if now_ms < (throttle()) then return 0 end
for _, window in ipairs(rate_windows()) do
  local since = now_ms - window.ms
  local all = count(K.turns, since, int(now_ms))
  local polls = all - count(K.submits, since, int(now_ms))
  local room = window.floor - polls
  local most = window.most - window.floor
  local ahead = window.ms == MINUTE_MS and '+inf' or int(now_ms + window.ms)
  if count(K.submits, now_ms, ahead) == 0 then room = math.max(room, most - all) end
  if window.ms == MINUTE_MS then
    local late = now_ms - MINUTE_MS / 6
    local lately = count(K.turns, late, int(now_ms)) - count(K.submits, late, int(now_ms))
    room = math.min(room, math.ceil(most / 6) - lately)
  end
  granted = math.min(granted, room)
end
for poll = 0, granted - 1 do
  redis.call('ZADD', K.turns, int(now_ms), 'poll ' .. ARGV[2] .. ':' .. poll)
end
if granted > 0 then
  local last = redis.call('ZREVRANGE', K.turns, 0, 0, 'WITHSCORES')[2]
  trim_and_expire(K.turns, tonumber(last))
end
return math.max(granted, 0)
