#!lua flags=allow-oom
-- End a job: counters, ledger entry, record, replay and signal in one write, once. S and X are
-- final; U keeps the reservation and may be settled again. This runs on a full store too, since what
-- was paid for must be recorded. While images of a job in S are pending, its task goes on and any
-- process may try to download them; pictures that came before the settlement are delivered by it.
-- KEYS [1] slot  ARGV [1] epoch [2] position
--      [3] {job, state, status, billed, presumed, surplus, proof?, code?, pictures, names,
--           pending? = {{image_id, image} ...}, collect_ms?, failure?, calls?, hold_ms, look_ms?,
--           task_ms, image_ms, only?, brief?, audit? = {actor, kind, reason}}
-- -> settled {record} | again {record} (it had this end already: nothing moved) | kept {record} (it is
--    not in the state `only`) | settled {ended_ms, dispatched_ms?} (asked to be `brief` by the process
--    that has the job: it ends for the first time, and nothing is pending)
-- errors: job_missing, outcome_invalid {why}
if data_lost() then return fail(E.data_lost) end
local ask = cjson.decode(ARGV[3])
local id, key = ask.job, K.job .. ask.job
local job = all_fields(key)
if not job.state then return fail(E.job_missing) end
if not OPEN[job.state] or job.state == ask.state then
  -- A cancellation of what ended otherwise, or long ago, changes nothing.
  if ask.only and not (job.failure and cjson.decode(job.failure).code == ask.code
    and now_ms - tonumber(job.ended or 0) <= RETRY_JOIN_MS) then
    return reply('kept', { record = record(id) })
  end
  if job.entry then emit_entry(job.entry) end
  emit_change('job', id, record(id), job.over)
  return reply('again', { record = record(id) })
end
if ask.only and job.state ~= ask.only then return reply('kept', { record = record(id) }) end
local n, unit = tonumber(job.n), tonumber(job.unit or 0)
if ask.billed > n then
  return fail(E.outcome_invalid, { why = 'charged more images than were reserved' })
end
local disproved = ask.proof == 'P0' or ask.proof == 'P1' or ask.proof == 'P2'
if ask.state == 'X' and job.state ~= 'R' and not disproved then
  return fail(E.outcome_invalid, { why = 'a dispatched job is released only with proof' })
end

local scope_keys = scope_keys_of(job)
local final = ask.state ~= 'U'
local status, pending = ask.status, {}
for _, row in ipairs(ask.pending or {}) do
  local image_id, image = unpack(row)
  if not job['picture:' .. image_id] then
    pending[#pending + 1] = { image_id = image_id, image = image }
  end
end
if status == 'collecting' and #pending == 0 then status = 'completed' end
-- Cancelled before anything was sent: nothing was used, so there is no entry. The change of the job in
-- the journal says that it is over.
local unsent = ask.only == 'R'

local function move_counters()
  for _, label in ipairs({ job.day, job.month }) do
    local packed = read_packed(label, scope_keys)
    for i, scope_key in ipairs(scope_keys) do
      local images = ask.billed
      if scope_key == 'house' then images = images + ask.surplus end
      packed[i] = add_to_packed(packed[i], images, images * unit, -n, -n * unit)
    end
    write_packed(label, scope_keys, packed)
  end
end

-- Count one open job less, and learn how long generations take.
local function move_open_jobs()
  if not final then
    redis.call('HINCRBY', K.open, job.state, -1)
    redis.call('HINCRBY', K.open, 'U', 1)
    return
  end
  local open = read_fields(K.open, job.state, 'images', 'micros', 'typical')
  local typical = tonumber(open.typical)
  if ask.state == 'S' and job.state == 'D' then
    local took = math.min(math.max(now_ms - tonumber(job.dispatched), 0), 600000)
    typical = typical and typical + (took - typical) / 10 or took
  end
  local fields = {
    job.state, int((open[job.state] or 0) - 1), 'images', int((open.images or 0) - n),
    'micros', int((open.micros or 0) - n * unit),
  }
  if typical then fields[7], fields[8] = 'typical', int(typical) end
  redis.call('HSET', K.open, unpack(fields))
end

local function settlement_entry()
  return entry_of(id, ask.state == 'S' and 'settle' or 'release', job, {
    { 'images', int(ask.billed) },
    { 'micros', job.unit and int(ask.billed * unit) },
    { 'delivered', #ask.names + #(ask.pending or {}) },
    { 'presumed', int(ask.presumed) },
    { 'surplus', int(ask.surplus) },
    { 'surplus_micros', ask.surplus > 0 and int(ask.surplus * unit) },
    { 'proof', ask.proof },
    { 'code', ask.code },
    { 'calls', ask.calls },
    { 'dispatched', job.dispatched },
    { 'asked', job.n },
  })
end

-- What the caller was told stands, except that late pictures turn a failure into a success.
local function write_outcome(entry)
  local fields = { 'state', ask.state, 'billed', int(ask.billed) }
  local function put(field, value)
    fields[#fields + 1] = field
    fields[#fields + 1] = value
  end
  if ask.failure then put('failure', ask.failure) end
  if ask.calls then put('calls', ask.calls) end
  if entry then put('entry', entry) end
  -- Where no entry says that the job changed, its own number does.
  local seq = not entry and next_seq(id) or nil
  if seq then put('over', int(seq)) end
  if not job.ended or status ~= 'failed' then
    put('status', status)
    if #pending == 0 then put('ended', int(now_ms)) else put('collecting', int(now_ms)) end
    put('pictures', ask.pictures)
  end
  if status == 'completed' then put('progress', 100) end
  for _, link in ipairs(pending) do put('pending:' .. link.image_id, link.image) end
  write_job(id, unpack(fields))
  number_last_change(seq or 0)
  if status ~= 'failed' and (job.failure or ask.failure) then
    redis.call('HDEL', key, 'failure')
    emit_change('job', id, { 'state', ask.state, 'failure', '' })
  end
  if #pending > 0 and redis.call('HDEL', key, 'ended') == 1 then
    emit_change('job', id, { 'state', ask.state, 'ended', '' })
  end
  local owner = #ask.names > 0 and cjson.encode({ job.user, job.pool })
  for _, name in ipairs(ask.names) do
    redis.call('SET', K.owner .. name, owner, 'PX', ask.image_ms)
  end
end

-- Count a refusal that the request itself caused and that cost nothing: admit.lua limits them.
local function count_refusal()
  if not (REFUSAL_CODES[ask.code] and ask.state == 'X' and job.dispatched) then return end
  local own = K.refusals .. job.user
  if redis.call('INCR', own) == 1 then redis.call('PEXPIRE', own, HOUR_MS) end
end

local function release_slots()
  for _, scope_key in ipairs(scope_keys) do redis.call('ZREM', K.slots .. scope_key, id) end
  if not final then
    local soon = ask.look_ms and count_polls(job) > 0
    local wait = soon and math.min(ask.look_ms, ask.hold_ms) or ask.hold_ms
    redis.call('ZADD', K.due, now_ms + wait, id)
    return
  end
  redis.call('ZREM', K.due, id)
  if #pending > 0 then
    redis.call('ZADD', K.collect, int(now_ms + ask.collect_ms), id)
  else
    expire_ended_job(id, job, ask, job.ended and status == 'failed' and job.status or status)
  end
end

if final then
  move_counters()
  if job.image_rate and ask.billed < n then
    give_back_image_rate(job.image_rate, (n - ask.billed) / n)
  end
end
move_open_jobs()
write_outcome(final and not unsent and append_entry(id, settlement_entry()))
release_slots()
count_refusal()
if ask.audit then
  write_audit(ask.audit, 'job:' .. id, job.user, job.team, { state = { job.state, ask.state } })
end
if #pending == 0 then
  redis.call('PUBLISH', K.ended, id)
  if not job.ended or status ~= 'failed' then tell_webhooks(id, job.hooks, status) end
end
if ask.brief and final and not job.ended and not job.collecting and #pending == 0 then
  return reply('settled', { ended_ms = now_ms, dispatched_ms = tonumber(job.dispatched) })
end
return reply('settled', { record = record(id) })
