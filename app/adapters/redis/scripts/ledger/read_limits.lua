#!lua flags=no-writes
-- How every limit of a principal stands, unlimited ones too.
-- KEYS [1] slot  ARGV [1] {scope_keys, limits} [2] days
-- -> {limits}
-- errors: clock_skew {now_ms}
local ask = cjson.decode(ARGV[1])
local day = today(ARGV[2])
if not day then return fail(E.clock_skew, { now_ms = now_ms }) end
local windows = { read_window(day.label, ask.scope_keys), read_window(day.month, ask.scope_keys) }
return named({ limits = limit_rows(ask.scope_keys, ask.limits, day, windows, true) })
