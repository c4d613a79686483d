#!lua
-- Count one request against every pace, all or nothing, and look for the job it repeats.
-- KEYS [1] slot  ARGV [1] epoch [2] mark [3] {lines, limits, repeated, unpaced?} [4] days
-- -> {'arrived', job id or false, rows} | {'paced', line, seconds} | {'reused'}
--    {'contested', calls} when it kept its pace, but may repeat one of these
--    {'skew', now ms} | {'amnesia'}
if amnesia() then return reply('amnesia') end
local ask = cjson.decode(ARGV[3])
local day = today(cjson.decode(ARGV[4]))
if not day then return reply('skew', now_ms) end

if ask.unpaced then
  local line, seconds = keep_pace(ask.lines, ask.limits)
  if line then return reply('paced', line, seconds) end
end
local id, unsaid, calls = rejoin(ask.repeated)
if unsaid then return reply(unsaid, calls) end
local windows = { read_window(day.label, ask.lines), read_window(day.month, ask.lines) }
return reply('arrived', id or false, standing(ask.lines, ask.limits, day, windows))
