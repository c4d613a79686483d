#!lua
-- Append a correction and move the counters of its windows with it. Asked twice under one id, it
-- corrects once.
-- KEYS [1] slot  ARGV [1] epoch [2] position
--      [3] {id?, scope_keys, windows = {{label, keep_ms} ...}, images, micros, fields,
--           audit? = {actor, kind, reason, target, user, team?}}
-- -> adjusted {entry, before? (what was entered under that id before, as {field, value ...})}
-- errors: counter_negative {scope_key, label}
if data_lost() then return fail(E.data_lost) end
local ask = cjson.decode(ARGV[3])
local before = ask.id and redis.call('GET', K.adjusted .. ask.id)
if before then
  local id = emit_entry(before)
  return reply('adjusted', { entry = id, before = changes[1] and changes[1][3] })
end
local moved = {}
for _, window in ipairs(ask.windows) do
  if window.keep_ms > now_ms then
    window.sums = read_window(window.label, ask.scope_keys)
    for i, sums in ipairs(window.sums) do
      sums.images, sums.micros = sums.images + ask.images, sums.micros + ask.micros
      if sums.images < 0 or sums.micros < 0 then
        return fail(E.counter_negative, { scope_key = ask.scope_keys[i], label = window.label })
      end
    end
    moved[#moved + 1] = window
  end
end
for _, window in ipairs(moved) do
  write_window(window.label, ask.scope_keys, window.sums)
  expire_window(window.label, window.keep_ms)
end
local entry = redis.call('XADD', K.stream, '*', unpack(ask.fields))
local seq = next_seq(entry)
local change = { unpack(ask.fields) }
if ask.audit then
  local given = { images = { cjson.null, ask.images } }
  if ask.micros ~= 0 then given.micros = { cjson.null, ask.micros } end
  change[#change + 1] = 'audit'
  change[#change + 1] = write_audit(ask.audit, ask.audit.target, ask.audit.user, ask.audit.team, given)
end
publish_change('entry', entry, change, seq)
if ask.id then
  redis.call('SET', K.adjusted .. ask.id, entry .. ' ' .. int(seq), 'PX', IDEMPOTENCY_TTL_MS)
end
return reply('adjusted', { entry = entry })
