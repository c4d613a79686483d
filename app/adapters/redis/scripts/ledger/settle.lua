#!lua flags=allow-oom
-- End a job: counters, ledger entry, record, replay and signal in one write_job, once. S and X are
-- final; U keeps the reservation and may be settled again. Runs on a full store too: what was paid
-- for is written down. While images of a job in S are pending its task goes on, and anybody may try
-- for them; those whose picture came before the settlement are delivered by it.
-- KEYS [1] slot  ARGV [1] epoch [2] position
--      [3] {job, state, status, billed, presumed, surplus, proof?, code?, pictures, names,
--           pending? = {{place, image} ...}, collect_ms?, failure?, calls?, hold_ms, look_ms?,
--           task_ms, image_ms, only?}
-- -> {'settled' | 'again', record} | {'kept', record} when not in the state `only`
--    {'unlawful', why} | {'missing'} | {'data_loss'}
if data_lost() then return reply('data_loss') end
local ask = cjson.decode(ARGV[3])
local id, key = ask.job, K.job .. ask.job
local job = read_fields(key, 'state', 'status', 'n', 'unit', 'key', 'user', 'team', 'pool', 'model',
  'size', 'quality', 'day', 'month', 'attempt', 'replay', 'ended', 'dispatched', 'entry', 'parts',
  'over', 'failure')
if not job.state then return reply('missing') end
if not OPEN[job.state] or job.state == ask.state then
  -- Who cancels what ended otherwise, or long ago, is told so and writes nothing down.
  if ask.only and not (job.failure and cjson.decode(job.failure).code == ask.code
    and now_ms - tonumber(job.ended or 0) <= RETRY_JOIN_MS) then
    return reply('kept', record(id))
  end
  if job.entry then emit_entry(job.entry) end
  emit_change('job', id, record(id), job.over)
  return reply('again', record(id))
end
if ask.only and job.state ~= ask.only then return reply('kept', record(id)) end
local n, unit = tonumber(job.n), tonumber(job.unit or 0)
if ask.billed > n then return reply('unlawful', 'charged more images than were reserved') end
local disproved = ask.proof == 'P0' or ask.proof == 'P1' or ask.proof == 'P2'
if ask.state == 'X' and job.state ~= 'R' and not disproved then
  return reply('unlawful', 'a dispatched job is released only with proof')
end

local scope_keys = scope_keys_of(job)
local final = ask.state ~= 'U'
local status, pending = ask.status, {}
for _, row in ipairs(ask.pending or {}) do
  if not redis.call('HGET', key, 'picture:' .. row[1]) then pending[#pending + 1] = row end
end
if status == 'collecting' and #pending == 0 then status = 'completed' end
-- Cancelled before anything was sent: nothing was used, so the books keep no entry of it. The job's
-- own scope_key in the journal says that it is over.
local unsent = ask.only == 'R'

local function move_counters()
  for _, label in ipairs({ job.day, job.month }) do
    local window = read_window(label, scope_keys)
    for i, scope_key in ipairs(scope_keys) do
      local row, images = window[i], ask.billed
      if scope_key == 'house' then images = images + ask.surplus end
      row[1], row[2] = row[1] + images, row[2] + images * unit
      row[3], row[4] = row[3] - n, row[4] - n * unit
    end
    write_window(label, scope_keys, window)
  end
  redis.call('HINCRBY', K.open, 'images', -n)
  redis.call('HINCRBY', K.open, 'micros', int(-n * unit))
end

local function append_entry()
  local entry = { 'kind', ask.state == 'S' and 'settle' or 'release' }
  local function put(field, value)
    if value then entry[#entry + 1] = field; entry[#entry + 1] = value end
  end
  for _, field in ipairs({ 'key', 'user', 'team', 'model', 'size', 'quality', 'day', 'month' }) do
    put(field, job[field])
  end
  put('job', id)
  put('images', int(ask.billed))
  put('micros', job.unit and int(ask.billed * unit))
  put('delivered', #ask.names + #(ask.pending or {}))
  put('presumed', int(ask.presumed))
  put('surplus', int(ask.surplus))
  put('surplus_micros', ask.surplus > 0 and int(ask.surplus * unit))
  put('proof', ask.proof)
  put('code', ask.code)
  put('calls', ask.calls)
  put('dispatched', job.dispatched)
  put('asked', job.n)
  local place, seq = redis.call('XADD', K.stream, '*', unpack(entry)), next_seq(id)
  emit_change('entry', place, entry, seq)
  return place .. ' ' .. int(seq)
end

-- What the caller was told stands, except that late pictures turn a failure into their write_outcome.
local function write_outcome(entry)
  local fields = { 'state', ask.state, 'billed', int(ask.billed) }
  local function put(field, value) fields[#fields + 1] = field; fields[#fields + 1] = value end
  if ask.failure then put('failure', ask.failure) end
  if ask.calls then put('calls', ask.calls) end
  if entry then put('entry', entry) end
  local seq = unsent and next_seq(id) or nil
  if seq then put('over', int(seq)) end
  if not job.ended or status ~= 'failed' then
    put('status', status)
    if #pending == 0 then put('ended', int(now_ms)) else put('collecting', int(now_ms)) end
    put('pictures', ask.pictures)
  end
  if status == 'completed' then put('progress', 100) end
  for _, row in ipairs(pending) do put('pending:' .. row[1], row[2]) end
  write_job(id, unpack(fields))
  changes[#changes][4] = seq or 0
  if status ~= 'failed' and redis.call('HDEL', key, 'failure') == 1 then
    emit_change('job', id, { 'state', ask.state, 'failure', '' })
  end
  if #pending > 0 and redis.call('HDEL', key, 'ended') == 1 then
    emit_change('job', id, { 'state', ask.state, 'ended', '' })
  end
  for _, name in ipairs(ask.names) do
    local owner = cjson.encode({ job.user, job.pool })
    redis.call('SET', K.owner .. name, owner, 'PX', int(ask.image_ms))
  end
end

-- A refusal that the request itself brought about and that cost nothing: `admit` counts on it.
local function count_refusal()
  if not (REFUSAL_CODES[ask.code] and ask.state == 'X' and job.dispatched) then return end
  local own = K.refusals .. job.user
  if redis.call('INCR', own) == 1 then redis.call('PEXPIRE', own, HOUR_MS) end
end

local function release_slots()
  redis.call('HINCRBY', K.open, job.state, -1)
  for _, scope_key in ipairs(scope_keys) do redis.call('ZREM', K.slots .. scope_key, id) end
  if not final then
    redis.call('HINCRBY', K.open, 'U', 1)
    local soon = ask.look_ms and count_polls(id, job.parts) > 0
    local wait = soon and math.min(ask.look_ms, ask.hold_ms) or ask.hold_ms
    redis.call('ZADD', K.due, int(now_ms + wait), id)
    return
  end
  redis.call('ZREM', K.due, id)
  if #pending > 0 then
    redis.call('ZADD', K.collect, int(now_ms + ask.collect_ms), id)
  else
    expire_ended_job(id, job, ask)
  end
end

if final then move_counters() end
if ask.state == 'S' and job.state == 'D' then update_typical_ms(job.dispatched) end
write_outcome(final and not unsent and append_entry())
release_slots()
count_refusal()
if #pending == 0 then redis.call('PUBLISH', K.ended, id) end
return reply('settled', record(id))
