#!lua flags=no-writes
-- Every allowance of a principal, unlimited ones too.
-- KEYS [1] slot  ARGV [1] {lines, limits} [2] days -> {'stands', rows} | {'skew', now ms}
local ask = cjson.decode(ARGV[1])
local day = today(cjson.decode(ARGV[2]))
if not day then return { 'skew', now_ms } end
local windows = { read_window(day.label, ask.lines), read_window(day.month, ask.lines) }
return { 'stands', standing(ask.lines, ask.limits, day, windows, true) }
