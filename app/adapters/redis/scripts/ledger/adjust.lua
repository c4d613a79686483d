#!lua
-- Append a correction and move the counters of its windows with it. Asking twice under one id
-- corrects once.
-- KEYS [1] slot  ARGV [1] epoch [2] position
--      [3] {id?, scope_keys, windows = {{label, keep_ms} ...}, images, micros, surplus, fields}
-- -> {'adjusted', entry id} | {'negative', scope_key, label} | {'data_loss'}
if data_lost() then return reply('data_loss') end
local ask = cjson.decode(ARGV[3])
local before = ask.id and redis.call('GET', K.adjusted .. ask.id)
if before then return reply('adjusted', emit_entry(before)) end
local moved = {}
for _, kept in ipairs(ask.windows) do
  if kept.keep_ms > now_ms then
    local window = read_window(kept.label, ask.scope_keys)
    for i, row in ipairs(window) do
      row[1], row[2] = row[1] + ask.images, row[2] + ask.micros
      if row[1] < 0 or row[2] < 0 then return reply('negative', ask.scope_keys[i], kept.label) end
    end
    moved[#moved + 1] = { kept, window }
  end
end
for _, pair in ipairs(moved) do
  write_window(pair[1].label, ask.scope_keys, pair[2])
  expire_window(pair[1].label, pair[1].keep_ms)
end
local entry = redis.call('XADD', K.stream, '*', unpack(ask.fields))
local seq = next_seq(entry)
publish_change('entry', entry, ask.fields, seq)
if ask.id then
  redis.call('SET', K.adjusted .. ask.id, entry .. ' ' .. int(seq), 'PX', IDEMPOTENCY_TTL_MS)
end
return reply('adjusted', entry)
