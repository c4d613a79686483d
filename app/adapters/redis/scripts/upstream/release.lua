#!lua flags=allow-oom
-- Give a job's permit back: its slots or its position in the queue, and its starts if their time has
-- not come. The processes whose jobs wait are told.
-- KEYS [1] turns  ARGV [1] limits [2] job id [3] its member of the queue, or '' -> {queued, busy, next_ms}
local id, gone, left, unused, held = ARGV[2], 0, 0, false, nil
local function each(key, act)
  local n = 0
  while true do
    local member = id .. ':' .. n
    local score = redis.call('ZSCORE', key, member)
    if not score then return end
    act(member, tonumber(score))
    n = n + 1
  end
end

each(K.submits, function(member, at)
  if at <= now_ms then return end
  unused = true
  redis.call('ZREM', K.submits, member)
  redis.call('ZREM', K.turns, member)
end)
each(K.busy, function(member, lapses)
  held = limits.lease_ms - (lapses - now_ms)
  gone = gone + redis.call('ZREM', K.busy, member)
end)
if ARGV[3] ~= '' then
  left = redis.call('ZREM', K.queue, ARGV[3])
  redis.call('ZREM', K.waiting, ARGV[3])
end
-- The process that queued the job may still be asking for its permit.
if left > 0 or (gone > 0 and count_queued() > 0) then redis.call('PUBLISH', K.ended, id) end
local view = permits_view()
if held and held >= 0 and not unused then
  local before = tonumber(health().held or held)
  change_health('HSET', 'held', int(before + (held - before) / 10))
end
return view
