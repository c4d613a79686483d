#!lua flags=allow-oom
-- Jobs that hold slots, wait for them, or have a start that has not come: the slot reclaimer asks the
-- ledger which of them are still open. A slot that was taken just now is left out.
-- KEYS [1] turns  ARGV [1] limits -> {holders = {{job, calls} ...}}
local MAX_HOLDERS, SETTLED_IN_MS = 256, 3000
local found, calls = {}, {}
local function add(id, n)
  if not calls[id] then found[#found + 1] = id end
  calls[id] = math.max(calls[id] or 1, n)
end

local upto = now_ms + limits.lease_ms - SETTLED_IN_MS
for _, member in ipairs(redis.call('ZRANGEBYSCORE', K.busy, '-inf', int(upto), 'LIMIT', 0, MAX_HOLDERS)) do
  add(string.match(member, '^(.*):%d+$'), 1)
end
for _, member in ipairs(redis.call('ZRANGE', K.queue, 0, MAX_HOLDERS - 1)) do
  local slots, id = string.match(member, '^(%d+) (.*)$')
  add(id, tonumber(slots))
end
local coming = '(' .. int(now_ms)
for _, member in ipairs(redis.call('ZRANGEBYSCORE', K.submits, coming, '+inf', 'LIMIT', 0, MAX_HOLDERS)) do
  add(string.match(member, '^(.*):%d+$'), 1)
end
local list = {}
for i, id in ipairs(found) do list[i] = named({ job = id, calls = calls[id] }) end
return named({ holders = list })
