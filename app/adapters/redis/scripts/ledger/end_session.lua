#!lua flags=allow-oom
-- End a session.
-- KEYS [1] slot  ARGV [1] epoch [2] position [3] {id, key_digest}
-- -> ended
if data_lost() then return fail(E.data_lost) end
local ask = cjson.decode(ARGV[3])
redis.call('PEXPIRE', K.session .. ask.id, 0)
redis.call('ZREM', K.sessions .. ask.key_digest, ask.id)
return reply('ended')
