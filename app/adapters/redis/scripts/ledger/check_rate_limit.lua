#!lua
-- Count one request against every rate limit, all or nothing, and look for the job it repeats.
-- A repeat is not counted against the requests of the day: it gets an answer that was counted.
-- KEYS [1] slot  ARGV [1] epoch [2] position [3] {scope_keys, limits, dedup, rate_unchecked?} [4] days
-- -> counted {duplicate_of?, limits}
-- errors: rate_limited {scope, seconds?, limit?, ends_ms?}, possible_duplicate {calls} (its rate is
--    counted), key_reused, clock_skew {now_ms}
if data_lost() then return fail(E.data_lost) end
local ask = cjson.decode(ARGV[3])
local day = today(ARGV[4])
if not day then return fail(E.clock_skew, { now_ms = now_ms }) end

local scope_keys, limits = ask.scope_keys, ask.limits
local spent = rates_spent_us(scope_keys, limits, 'requests', K.pace)
if ask.rate_unchecked then
  local scope, seconds = count_request(scope_keys, limits, spent)
  if scope then return fail(E.rate_limited, { scope = scope, seconds = seconds }) end
end
local id, undecided, calls = find_duplicate(ask.dedup)
if undecided then return fail(undecided, { calls = calls }) end
local made = requests_of_day(day, scope_keys, limits)
if not id then
  local full = find_full_day(limits, made)
  if full then return fail(E.rate_limited, daily_refusal(day, full)) end
  count_request_of_day(day, scope_keys, limits, made)
end
local in_day, in_month
if has_window_limits(limits) then
  in_day, in_month = read_packed(day.label, scope_keys), read_packed(day.month, scope_keys)
end
return reply('counted', {
  duplicate_of = id,
  limits = with_rates(
    limit_texts(day, scope_keys, in_day, in_month, spent, running_jobs(scope_keys, limits)),
    limits, image_rates_spent_us(scope_keys, limits), made),
})
