#!lua flags=no-writes
-- Every allowance of a principal, unlimited ones too.
-- KEYS [1] slot  ARGV [1] {scope_keys, limits} [2] days -> {'stands', rows} | {'skew', now ms}
local ask = cjson.decode(ARGV[1])
local day = today(cjson.decode(ARGV[2]))
if not day then return { 'skew', now_ms } end
local windows = { read_window(day.label, ask.scope_keys), read_window(day.month, ask.scope_keys) }
return { 'stands', limit_rows(ask.scope_keys, ask.limits, day, windows, true) }
