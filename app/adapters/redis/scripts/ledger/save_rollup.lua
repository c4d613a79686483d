#!lua
-- Write part of a rollup into a draft, and with the last part put it in its place. Nothing is added
-- up here: what a draft gets is final, so that a rollup is never seen half and may be made twice.
-- KEYS [1] slot  ARGV [1] {epoch, draft, rows = {view = {group, sums ...}}, finish?}
--      finish = {name, views = {view ...}, keep_ms, level, before, after, from?}
-- -> 1 | 0 (another process was faster, or the ledger was rebuilt meanwhile)
local DRAFT_TTL_MS = 600000
local ask = cjson.decode(ARGV[1])
local function draft(view)
  return 'draft:' .. ask.draft .. ':' .. view
end
local finish = ask.finish
local overtaken = finish and tonumber(redis.call('HGET', K.rollups, finish.level) or 0) ~= finish.before
if overtaken or redis.call('GET', K.epoch) ~= ask.epoch then
  for _, view in ipairs(finish and finish.views or {}) do redis.call('DEL', K.rollup .. draft(view)) end
  return 0
end
for view, row in pairs(ask.rows) do
  local key = K.rollup .. draft(view)
  redis.call('HSET', key, unpack(row))
  redis.call('PEXPIRE', key, DRAFT_TTL_MS)
end
if not finish then return 1 end
for _, view in ipairs(finish.views) do
  local key, own = K.rollup .. draft(view), K.rollup .. finish.name .. ':' .. view
  if redis.call('EXISTS', key) == 1 then
    redis.call('RENAME', key, own)
    redis.call('PEXPIREAT', own, int(math.max(finish.keep_ms, now_ms + DRAFT_TTL_MS)))
  else
    redis.call('DEL', own)
  end
end
redis.call('HSET', K.rollups, finish.level, int(finish.after))
if finish.from then redis.call('HSET', K.rollups, 'from', int(finish.from)) end
return 1
