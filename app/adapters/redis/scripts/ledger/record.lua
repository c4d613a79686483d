#!lua flags=allow-oom
-- Write down the provider's id or the result of one part. A result stands, unless it says nothing
-- was made and a later one brings images.
-- KEYS [1] slot  ARGV [1] epoch [2] mark
--      [3] {job, part, due_ms, task_ms, upstream?, request?, result?, images?}
-- -> {'recorded'} | {'taken'} when the id is another part's | {'missing'}
--    {'ended'} when the books are closed | {'amnesia'}
if amnesia() then return reply('amnesia') end
local ask = cjson.decode(ARGV[3])
local key = K.job .. ask.job
local field = 'result:' .. ask.part
local job = read(key, 'state', 'key', 'user', 'team', field)
if not job.state then return reply('missing') end
if ask.upstream then
  local mine = ask.job .. ' ' .. ask.part
  local life = int(ask.task_ms + 86400000)
  local taken = redis.call('SET', K.upstream .. ask.upstream, mine, 'NX', 'GET', 'PX', life)
  if taken and taken ~= mine then return reply('taken') end
end
if not OPEN[job.state] then return reply('ended') end
if ask.upstream then write(ask.job, 'upstream:' .. ask.part, ask.upstream) end
if ask.request then write(ask.job, 'request:' .. ask.part, ask.request) end
if ask.result then
  local before = job[field] and cjson.decode(job[field]).images
  if not before or (before == 0 and ask.images > 0) then
    write(ask.job, field, ask.result)
  end
end
schedule(ask.job, job, now_ms + ask.due_ms)
if #changes > 0 then changes[1][4] = rise(ask.job) end
return reply('recorded')
