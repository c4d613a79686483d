#!lua
-- Append a correction and move the counters of its windows with it. Asking twice under one id
-- corrects once.
-- KEYS [1] slot  ARGV [1] epoch [2] mark
--      [3] {id?, lines, windows = {{label, keep_ms} ...}, images, micros, surplus, fields}
-- -> {'adjusted', entry id} | {'negative', line, label} | {'amnesia'}
if amnesia() then return reply('amnesia') end
local ask = cjson.decode(ARGV[3])
local before = ask.id and redis.call('GET', K.adjusted .. ask.id)
if before then return reply('adjusted', tell_entry(before)) end
local moved = {}
for _, kept in ipairs(ask.windows) do
  if kept.keep_ms > now_ms then
    local window = read_window(kept.label, ask.lines)
    for i, row in ipairs(window) do
      row[1], row[2] = row[1] + ask.images, row[2] + ask.micros
      if row[1] < 0 or row[2] < 0 then return reply('negative', ask.lines[i], kept.label) end
    end
    moved[#moved + 1] = { kept, window }
  end
end
for _, pair in ipairs(moved) do
  write_window(pair[1].label, ask.lines, pair[2])
  keep_window(pair[1].label, pair[1].keep_ms)
end
local entry = redis.call('XADD', K.stream, '*', unpack(ask.fields))
local seq = rise(entry)
publish('entry', entry, ask.fields, seq)
if ask.id then
  redis.call('SET', K.adjusted .. ask.id, entry .. ' ' .. int(seq), 'PX', REPLAY_MS)
end
return reply('adjusted', entry)
