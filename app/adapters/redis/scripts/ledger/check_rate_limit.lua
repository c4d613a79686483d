#!lua
-- Count one request against every pace, all or nothing, and look for the job it repeats.
-- KEYS [1] slot  ARGV [1] epoch [2] position [3] {scope_keys, limits, dedup, rate_unchecked?} [4] days
-- -> {'arrived', job id or false, rows} | {'rate_limited', scope_key, seconds} | {'reused'}
--    {'contested', calls} when it kept its pace, but may repeat one of these
--    {'skew', now ms} | {'data_loss'}
if data_lost() then return reply('data_loss') end
local ask = cjson.decode(ARGV[3])
local day = today(cjson.decode(ARGV[4]))
if not day then return reply('skew', now_ms) end

if ask.rate_unchecked then
  local scope_key, seconds = count_request(ask.scope_keys, ask.limits)
  if scope_key then return reply('rate_limited', scope_key, seconds) end
end
local id, undecided, calls = find_duplicate(ask.dedup)
if undecided then return reply(undecided, calls) end
local windows = { read_window(day.label, ask.scope_keys), read_window(day.month, ask.scope_keys) }
return reply('arrived', id or false, limit_rows(ask.scope_keys, ask.limits, day, windows))
