#!lua flags=no-writes
-- How every limit of a principal stands, unlimited ones too.
-- KEYS [1] slot  ARGV [1] {scope_keys, limits} [2] days
-- -> {limits}
-- errors: clock_skew {now_ms}
local ask = cjson.decode(ARGV[1])
local day = today(ARGV[2])
if not day then return fail(E.clock_skew, { now_ms = now_ms }) end
local scope_keys, limits = ask.scope_keys, ask.limits
return named({
  limits = with_rates(
    limit_texts(day, scope_keys, read_packed(day.label, scope_keys),
      read_packed(day.month, scope_keys), rates_spent_us(scope_keys, limits, 'requests', K.pace),
      running_jobs(scope_keys, limits, true)),
    limits, image_rates_spent_us(scope_keys, limits), requests_of_day(day, scope_keys, limits)),
})
