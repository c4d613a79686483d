#!lua
-- One more URL is to be told of a job's end, because another request was answered with that job. When
-- the task has ended, it is told now: `asked` then makes this request's telling one of its own.
-- KEYS [1] slot  ARGV [1] epoch [2] position [3] {job, hook = {url, user, origin, events?, lifetime}, asked?}
-- -> added | told | full (the task has as many as it may) | missing
if data_lost() then return fail(E.data_lost) end
local ask = cjson.decode(ARGV[3])
local job = read_fields(K.job .. ask.job, 'state', 'status', 'hooks')
if not job.state then return reply('missing') end
if job.status == 'completed' or job.status == 'failed' then
  open_webhook(ask.job, 'task.' .. job.status, ask.hook, ask.asked)
  return reply('told')
end
local hooks = job.hooks and cjson.decode(job.hooks) or {}
for _, hook in ipairs(hooks) do
  if hook.url == ask.hook.url and hook.user == ask.hook.user then return reply('added') end
end
if #hooks >= MAX_WEBHOOKS then return reply('full') end
hooks[#hooks + 1] = ask.hook
write_job(ask.job, 'hooks', cjson.encode(hooks))
return reply('added')
