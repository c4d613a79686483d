#!lua
-- A user deletes a picture of a job of theirs: it is theirs no more, and the job says so. Team mates
-- of a shared pool keep what they may see.
-- KEYS [1] slot  ARGV [1] epoch [2] position [3] {picture, user, job, left (prefix of one who left it)}
-- -> deleted {shared = 1 when others may see it, else 0} | missing (unknown, or somebody else's)
if data_lost() then return fail(E.data_lost) end
local ask = cjson.decode(ARGV[3])
local key = K.owner .. ask.picture
local found = redis.call('GET', key)
if not found then return reply('missing') end
local user, pool = unpack(cjson.decode(found))
if user ~= ask.user then return reply('missing') end
if redis.call('EXISTS', K.job .. ask.job) == 1 then
  local before = redis.call('HGET', K.job .. ask.job, 'deleted')
  write_job(ask.job, 'deleted', (before and before .. ' ' or '') .. ask.picture)
  number_last_change(next_seq(ask.job))
end
local shared = pool ~= 'user:' .. user
if shared then
  local left = cjson.encode({ ask.left .. user, pool })
  redis.call('SET', key, left, 'PX', math.max(redis.call('PTTL', key), 1))
else
  redis.call('PEXPIRE', key, 0)
end
return reply('deleted', { shared = shared and 1 or 0 })
