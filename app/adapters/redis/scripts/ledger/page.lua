#!lua flags=no-writes
-- One page of a user's jobs that still exist, with only what a list shows of each. A page ends early
-- where its texts grow long.
-- KEYS [1] slot  ARGV [1] user [2] limit [3] '' or the job it follows [4] '' or oldest [5] '' or status
-- -> {'page', 1 when more follow, record ...} | {'unknown'}
local SHOWN = { 'id', 'key', 'user', 'team', 'pool', 'model', 'n', 'size', 'quality', 'created',
  'state', 'status', 'progress', 'parts', 'ended', 'billed', 'pictures', 'failure' }
local MOST_CHARS = 262144
local own, limit, wanted = K.jobs .. ARGV[1], tonumber(ARGV[2]), ARGV[5]
local oldest = ARGV[4] == 'oldest'
local first = 0
if ARGV[3] ~= '' then
  local rank = redis.call(oldest and 'ZRANK' or 'ZREVRANK', own, ARGV[3])
  if not rank then return { 'unknown' } end
  first = rank + 1
end

-- Without what the provider said of each part. Who collects pictures keeps each in a field of its
-- own, and is read in whole.
local rows, chars = {}, 0
local function shown(id)
  if redis.call('HEXISTS', K.job .. id, 'collecting') == 1 then return record(id) end
  local row = {}
  for i, value in ipairs(redis.call('HMGET', K.job .. id, unpack(SHOWN))) do
    if value then row[#row + 1] = SHOWN[i]; row[#row + 1] = value end
  end
  return row
end
for _, id in ipairs(redis.call(oldest and 'ZRANGE' or 'ZREVRANGE', own, first, -1)) do
  local status = redis.call('HGET', K.job .. id, 'status')
  if status and (wanted == '' or wanted == status) then
    if #rows == limit or chars > MOST_CHARS then return { 'page', 1, unpack(rows) } end
    local row = shown(id)
    for _, text in ipairs(row) do chars = chars + string.len(text) end
    rows[#rows + 1] = row
  end
end
return { 'page', 0, unpack(rows) }
