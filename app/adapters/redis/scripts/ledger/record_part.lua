#!lua flags=allow-oom
-- Record the provider's id or the result of one part. A result stands, unless it says that nothing
-- was made and a later one brings images.
-- KEYS [1] slot  ARGV [1] epoch [2] position
--      [3] {job, part, due_ms, task_ms, upstream?, request?, result?, images?}
-- -> recorded | taken (the provider's id belongs to another part) | ended (the job is settled)
-- errors: job_missing
if data_lost() then return fail(E.data_lost) end
local ask = cjson.decode(ARGV[3])
local key = K.job .. ask.job
local field = 'result:' .. ask.part
local told, upstream = 'told:' .. ask.part, 'upstream:' .. ask.part
local job = read_fields(key, 'state', 'key', 'user', 'team', field, upstream, told,
  'provider')
if not job.state then return fail(E.job_missing) end
if ask.upstream then
  local mine = ask.job .. ' ' .. ask.part
  local ttl = int(ask.task_ms + 86400000)
  local taken = redis.call('SET', K.upstream .. task_name(job, ask.upstream), mine, 'NX', 'GET', 'PX', ttl)
  if taken and taken ~= mine then return reply('taken') end
end
if not OPEN[job.state] then return reply('ended') end
local fields = {}
local function put(name, value)
  fields[#fields + 1] = name
  fields[#fields + 1] = value
end
local before = job[field] and cjson.decode(job[field]).images
local better = ask.result and (not before or (before == 0 and ask.images > 0))
if ask.upstream then put(upstream, ask.upstream) end
if ask.request then put('request:' .. ask.part, ask.request) end
if better or (ask.result and ask.result == job[field]) then put(field, ask.result) end
if better or (ask.upstream and job[upstream] ~= ask.upstream) or (ask.request and not job[told]) then
  local seq = next_seq(ask.job)
  put(told, int(seq))
  write_job(ask.job, unpack(fields))
  number_last_change(seq)
elseif #fields > 0 then
  emit_change('job', ask.job, fields, job[told])
end
schedule(ask.job, job, now_ms + ask.due_ms)
return reply('recorded')
