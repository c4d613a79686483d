#!lua flags=allow-oom
-- Record what became of a job's pending images, each once. Pictures may come before the job is
-- settled and after they were given up. The settlement counted pending images as delivered: an entry
-- that charges nothing corrects that for those given up.
-- The task ends with its last image, or once some pictures are there and each of the other images was
-- tried in vain, by whatever process: several may download the parts of one job.
-- KEYS [1] slot  ARGV [1] epoch [2] position
--      [3] {job, pictures = {{image_id, picture, name} ...}, lost = {image_id ...},
--           links = {{image_id, image} ...}, error?, tried = {image_id ...}, due_ms, failure, task_ms, image_ms,
--           denied? = {{part, whether its task failed} ...}}
-- -> collected {pictures (new ones), lost (images newly given up), ended = 1 when this ended the task
--    or 0, record}
-- errors: job_missing
if data_lost() then return fail(E.data_lost) end
local ask = cjson.decode(ARGV[3])
local id, key = ask.job, K.job .. ask.job
local job = all_fields(key)
if not job.state then return fail(E.job_missing) end
local fields, gone, fresh, lost, found = {}, {}, {}, {}, 0

local function put(field, value)
  fields[#fields + 1] = field
  fields[#fields + 1] = value
  job[field] = value
end

local function take(field)
  if not job[field] then return false end
  gone[#gone + 1] = field
  job[field] = nil
  return true
end

local function save_picture(image_id, picture, name)
  local before = job['picture:' .. image_id]
  if before then
    local known = { 'picture:' .. image_id, before, 'pending:' .. image_id, '' }
    return emit_change('job', id, known, job['told:' .. image_id])
  end
  local awaited, given_up = take('pending:' .. image_id), take('lost:' .. image_id)
  if not (awaited or given_up or OPEN[job.state]) then return end
  if given_up then found = found + 1 end
  put('picture:' .. image_id, picture)
  redis.call('SET', K.owner .. name, cjson.encode({ job.user, job.pool }), 'PX', int(ask.image_ms))
  fresh[#fresh + 1] = image_id
end

for _, row in ipairs(ask.pictures) do save_picture(unpack(row)) end
for _, image_id in ipairs(ask.lost) do
  if take('pending:' .. image_id) then
    put('lost:' .. image_id, '1')
    lost[#lost + 1] = image_id
  elseif job['lost:' .. image_id] and job['told:' .. image_id] then
    emit_entry(job['told:' .. image_id])
    emit_change('job', id, { 'lost:' .. image_id, '1', 'pending:' .. image_id, '' })
  end
end
for _, row in ipairs(ask.links) do
  local image_id, image = unpack(row)
  if job['pending:' .. image_id] then put('pending:' .. image_id, image) end
end
if ask.error then put('trouble', ask.error) end
for _, image_id in ipairs(ask.tried) do
  job['tried:' .. image_id] = '1'
  redis.call('HSET', key, 'tried:' .. image_id, '1')
end
for _, row in ipairs(ask.denied or {}) do
  local part, has_failed = unpack(row)
  if has_failed then
    redis.call('HINCRBY', key, 'denied:' .. part, 1)
  else
    redis.call('HDEL', key, 'denied:' .. part)
  end
end

local function correct_delivered(delivered)
  local stored = append_entry(id, entry_of(id, 'delivery', job, {
    { 'images', '0' },
    { 'micros', job.unit and '0' },
    { 'delivered', int(delivered) },
    { 'presumed', '0' },
    { 'surplus', '0' },
  }))
  for _, image_id in ipairs(lost) do put('told:' .. image_id, stored) end
end

local function count_images()
  local left, untried, there = 0, 0, #cjson.decode(job.pictures or '[]')
  for field in pairs(job) do
    local image_id = string.match(field, '^pending:(.*)$')
    if image_id then
      left = left + 1
      if not job['tried:' .. image_id] then untried = untried + 1 end
    end
    if string.match(field, '^picture:') then there = there + 1 end
  end
  return left, untried, there
end

-- Update what the caller is told; true when that ends the task.
local function update_status(left, untried, there)
  local status = job.status
  if there > 0 and untried == 0 then
    status = 'completed'
  elseif there == 0 and left == 0 then
    status = 'failed'
  end
  if status == job.status then return false end
  put('status', status)
  put('ended', int(now_ms))
  if status == 'completed' then
    put('progress', '100')
    take('failure')
  else
    put('failure', ask.failure)
  end
  return true
end

local ended, seq = false, 0
if job.state == 'S' and found ~= #lost then correct_delivered(found - #lost) end
if #fresh > 0 then
  seq = next_seq(id)
  for _, image_id in ipairs(fresh) do put('told:' .. image_id, int(seq)) end
end
if job.state == 'S' and (#fresh > 0 or redis.call('ZSCORE', K.collect, id)) then
  local left, untried, there = count_images()
  ended = update_status(left, untried, there)
  if left > 0 then
    redis.call('ZADD', K.collect, int(now_ms + ask.due_ms), id)
  else
    redis.call('ZREM', K.collect, id)
  end
  if ended then
    redis.call('PUBLISH', K.ended, id)
    tell_webhooks(id, job.hooks, job.status)
  end
end
if #fields > 0 then
  write_job(id, unpack(fields))
  number_last_change(seq)
end
if #gone > 0 then
  redis.call('HDEL', key, unpack(gone))
  local without = {}
  for _, field in ipairs(gone) do
    without[#without + 1] = field
    without[#without + 1] = ''
  end
  emit_change('job', id, without)
end
if job.state == 'S' and not redis.call('ZSCORE', K.collect, id) then
  local whole = all_fields(key)
  expire_ended_job(id, whole, ask, whole.status)
end
return reply('collected', {
  pictures = #fresh, lost = #lost, ended = ended and 1 or 0, record = record(id),
})
