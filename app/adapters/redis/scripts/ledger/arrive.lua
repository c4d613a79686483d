#!lua
-- Count one request against every pace, all or nothing, and look for the job it repeats.
-- KEYS [1] slot  ARGV [1] epoch [2] seq [3] {lines, limits, repeated} [4] days
-- -> {'arrived', seq, job id or false, rows} | {'paced', seq, line, seconds} | {'reused', seq}
--    {'skew', seq, now ms} | {'amnesia', seq}
if amnesia() then return reply('amnesia') end
local ask = cjson.decode(ARGV[3])
local day = today(cjson.decode(ARGV[4]))
if not day then return reply('skew', now_ms) end

local paces, worst, wait = {}, nil, 0
for i, line in ipairs(ask.lines) do
  local limit = ask.limits[i].requests
  if limit == 0 then
    worst, wait = i, 60000000
  elseif limit then
    local after = spent_pace(line) + interval(limit)
    paces[line] = after
    if after - 60000000 > wait then worst, wait = i, after - 60000000 end
  end
end
if worst then
  return reply('paced', worst, math.max(1, math.min(60, math.ceil(wait / 1000000))))
end
for line, after in pairs(paces) do
  redis.call('SET', K.pace .. line, int(now_us + after), 'PX', math.max(1, math.ceil(after / 1000)))
end

local id, reused = rejoin(ask.repeated)
if reused then return reply('reused') end
local windows = { read_window(day.label, ask.lines), read_window(day.month, ask.lines) }
return reply('arrived', id or false, standing(ask.lines, ask.limits, day, windows))
