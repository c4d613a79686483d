#!lua
-- Count one request against every rate limit, all or nothing, and look for the job it repeats.
-- KEYS [1] slot  ARGV [1] epoch [2] position [3] {scope_keys, limits, dedup, rate_unchecked?} [4] days
-- -> counted {duplicate_of?, limits}
-- errors: rate_limited {scope, seconds}, possible_duplicate {calls} (its rate is counted), key_reused,
--    clock_skew {now_ms}
if data_lost() then return fail(E.data_lost) end
local ask = cjson.decode(ARGV[3])
local day = today(ARGV[4])
if not day then return fail(E.clock_skew, { now_ms = now_ms }) end

if ask.rate_unchecked then
  local scope, seconds = count_request(ask.scope_keys, ask.limits)
  if scope then return fail(E.rate_limited, { scope = scope, seconds = seconds }) end
end
local id, undecided, calls = find_duplicate(ask.dedup)
if undecided then return fail(undecided, { calls = calls }) end
local windows = { read_window(day.label, ask.scope_keys), read_window(day.month, ask.scope_keys) }
local rows = limit_rows(ask.scope_keys, ask.limits, day, windows)
return reply('counted', { duplicate_of = id, limits = rows })
