#!lua
-- Keep a session of an API key or of a person. Its key ends the oldest one when it has too many.
-- KEYS [1] slot  ARGV [1] epoch [2] position [3] {id, key_digest, role, life_ms, most, person?}
-- -> saved {expires_ms}
if data_lost() then return fail(E.data_lost) end
local ask = cjson.decode(ARGV[3])
local expires_ms = now_ms + ask.life_ms
local record = { key_digest = ask.key_digest, role = ask.role, expires_ms = expires_ms, person = ask.person }
local key = K.sessions .. ask.key_digest
redis.call('SET', K.session .. ask.id, cjson.encode(record), 'PX', ask.life_ms)
redis.call('ZREMRANGEBYSCORE', key, '-inf', int(now_ms))
redis.call('ZADD', key, int(expires_ms), ask.id)
local surplus = redis.call('ZCARD', key) - ask.most
for _, id in ipairs(redis.call('ZRANGE', key, 0, surplus - 1)) do
  if surplus > 0 then
    redis.call('PEXPIRE', K.session .. id, 0)
    redis.call('ZREM', key, id)
  end
end
redis.call('PEXPIRE', key, ask.life_ms)
return reply('saved', { expires_ms = expires_ms })
