#!lua flags=no-writes
-- What scopes have used of this day and this month.
-- KEYS [1] slot  ARGV [1] {scope_keys} [2] days
-- -> {day, month, in_day, in_month = {'<images> <micros> <held images> <held micros>' or '' ...}}
-- errors: clock_skew {now_ms}
local ask = cjson.decode(ARGV[1])
local day = today(ARGV[2])
if not day then return fail(E.clock_skew, { now_ms = now_ms }) end
local function texts(label)
  local packed = read_packed(label, ask.scope_keys)
  for i = 1, #ask.scope_keys do packed[i] = packed[i] or '' end
  return packed
end
return named({
  day = day.label, month = day.month, in_day = texts(day.label), in_month = texts(day.month),
})
