#!lua flags=no-writes
-- One page of a user's jobs that still exist, with only those fields of each that a list shows. A
-- page ends early where its texts grow long, and where too many jobs had to be looked at.
-- KEYS [1] slot  ARGV [1] user [2] limit [3] '' or the job it follows [4] '' or oldest [5] '' or
--      status [6] since when (ms) [7 ...] fields: the first must be the status, the second says that
--      images are collected
-- -> {more = 1 when more follow or 0, jobs = {{value or nil of each field} or {record} ...},
--     looked_up_to? (the last job looked at, when it ends early with fewer than `limit`)}
-- errors: task_unknown
local MAX_CHARS, MAX_LOOKED_AT = 262144, 128
local own, limit, wanted = K.jobs .. ARGV[1], tonumber(ARGV[2]), ARGV[5]
local oldest = ARGV[4] == 'oldest'
-- Older ones are not shown: they were of another user, who had this name.
local hidden = redis.call('ZCOUNT', own, '-inf', '(' .. ARGV[6])
local first, last = oldest and hidden or 0, redis.call('ZCARD', own) - 1 - (oldest and 0 or hidden)
if ARGV[3] ~= '' then
  local rank = redis.call(oldest and 'ZRANK' or 'ZREVRANK', own, ARGV[3])
  if not rank then return fail(E.task_unknown) end
  first = math.max(first, rank + 1)
end

local rows, chars = {}, 0
last = math.min(last, first + MAX_LOOKED_AT)
local ids = last < first and {} or redis.call(oldest and 'ZRANGE' or 'ZREVRANGE', own, first, last)
for i, id in ipairs(ids) do
  if i > MAX_LOOKED_AT then
    return named({ more = 1, jobs = rows, looked_up_to = ids[i - 1] })
  end
  local row = redis.call('HMGET', K.job .. id, unpack(ARGV, 7))
  local status, collecting = row[1], row[2]
  if status and (wanted == '' or wanted == status) then
    if #rows == limit or chars > MAX_CHARS then return named({ more = 1, jobs = rows }) end
    local texts = row
    if collecting then  -- each picture that is collected has a field of its own
      texts = record(id)
      row = { texts }
    end
    for i = 1, #texts do chars = chars + #(texts[i] or '') end
    rows[#rows + 1] = row
  end
end
return named({ more = 0, jobs = rows })
