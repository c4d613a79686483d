#!lua flags=no-writes
-- One page of the open jobs or of a window's counters, and all that changed since the page before.
-- Whoever lays the changes over the pages in order has, when nothing is behind, the ledger of one moment.
-- KEYS [1] slot  ARGV [1] sequence number of the page before, or '' [2] 'jobs' or a window's label; ''
--      for changes alone [3] where the page begins ('0' at first) [4] rows of a page
-- -> {seq (known up to here), behind (changes that are still to be told), next ('0' after the last page),
--     jobs = {{id, state?, n?, unit?, day?, month?, key?, user?, team?} ...},
--     counters = {{label, scope_key, packed or nil} ...}, last_entry?, open = {R, D, U, images, micros},
--     labels (the windows that are kept)}, or {lost = 1}: more changed than is remembered, begin again
local MAX_ROWS = 128  -- changes told at once
local FIELDS = { 'state', 'n', 'unit', 'day', 'month', 'key', 'user', 'team' }
local seq = tonumber(redis.call('GET', K.seq) or 0)
local from = tonumber(ARGV[1]) or seq
local upto = math.min(seq, from + MAX_ROWS)
local jobs, counters = {}, {}
if seq - from > MAX_POSITIONS - MAX_ROWS then return named({ lost = 1 }) end

local function add_job(id)
  local job = redis.call('HMGET', K.job .. id, unpack(FIELDS))
  table.insert(job, 1, id)
  jobs[#jobs + 1] = job
  return job
end

-- The counters that an entry or a job moves: {user or nil ...} as false where there is none.
local function add_counters(day, month, key, user, team)
  local scope_keys = scope_keys_of({ key = key or '', user = user or '', team = team or nil })
  for _, label in ipairs({ day, month }) do
    for i, packed in ipairs(redis.call('HMGET', K.window .. label, unpack(scope_keys))) do
      counters[#counters + 1] = { label, scope_keys[i], packed }
    end
  end
end

local function add_change(id)
  local entry = string.match(id, '^%d+%-%d+$') and redis.call('XRANGE', K.stream, id, id)[1]
  if entry then
    local row = {}
    for i = 1, #entry[2], 2 do row[entry[2][i]] = entry[2][i + 1] end
    add_counters(row.day, row.month, row.key, row.user, row.team)
    return
  end
  local job = add_job(id)
  if job[2] then add_counters(unpack(job, 5)) end
end

local told = {}
for number = from + 1, upto do
  local mark = redis.call('HGET', K.trail, number % MAX_POSITIONS)
  local at, id = string.match(mark or '', '^(%d+) (.+)$')
  if tonumber(at) ~= number then return named({ lost = 1 }) end
  if not told[id] then add_change(id) end
  told[id] = true
end

local page = { '0', {} }
if ARGV[2] == 'jobs' then
  page = scan_members(K.due, ARGV[3], ARGV[4])
  for i = 1, #page[2], 2 do add_job(page[2][i]) end
elseif ARGV[2] ~= '' then
  local key = K.window .. ARGV[2]
  page = redis.pcall('HSCAN', key, ARGV[3], 'COUNT', ARGV[4])
  if page.err then page = { '0', redis.call('HGETALL', key) } end
  for i = 1, #page[2], 2 do counters[#counters + 1] = { ARGV[2], page[2][i], page[2][i + 1] } end
end
local open = read_fields(K.open, 'R', 'D', 'U', 'images', 'micros')
for _, field in ipairs({ 'R', 'D', 'U', 'images', 'micros' }) do
  open[field] = tonumber(open[field] or 0)
end
local last = redis.call('XREVRANGE', K.stream, '+', '-', 'COUNT', 1)[1]
return named({
  seq = upto, behind = seq - upto, next = page[1], jobs = jobs, counters = counters,
  last_entry = last and last[1], open = named(open),
  labels = redis.call('ZRANGEBYSCORE', K.windows, '(' .. int(now_ms), '+inf'),
})
