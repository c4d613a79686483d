#!lua
-- Open a rebuilt ledger in a new epoch that continues the earlier ones.
-- KEYS [1] slot  ARGV [1] {run?, epoch, seq, earlier = {epoch = rebuilt up to}, open = {field, count ...}}
-- -> 1
-- errors: ledger_open
local ask, suspect = cjson.decode(ARGV[1]), redis.call('GET', K.suspect)
if not suspect or (ask.run and ask.run ~= suspect) then return fail(E.ledger_open) end
redis.call('DEL', K.stream, K.open, K.trail, K.rollups, K.months)
if redis.call('EXISTS', K.draft) == 1 then redis.call('RENAME', K.draft, K.stream) end
if redis.call('EXISTS', K.audit_draft) == 1 then redis.call('RENAME', K.audit_draft, K.audit) end
redis.call('HSET', K.open, unpack(ask.open))
redis.call('SET', K.seq, int(ask.seq))
redis.call('HSET', K.trail, ask.seq % MAX_POSITIONS, int(ask.seq) .. ' rebuilt')
for epoch, seq in pairs(ask.earlier) do redis.call('HSET', K.lineage, epoch, int(seq)) end
redis.call('SET', K.epoch, ask.epoch)
redis.call('SET', K.data_version, DATA_VERSION)
redis.call('DEL', K.suspect)
return 1
