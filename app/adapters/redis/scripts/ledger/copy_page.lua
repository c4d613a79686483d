#!lua flags=no-writes
-- A page of what a backup copies (recovery/backup.py).
-- KEYS [1] slot  ARGV [1] what [2] where the page begins ('' at first) [3] rows of a page [4] user
--      what: 'entries' or 'audit' (in order, each entry with the job that it ended), 'due' or 'collect'
--      (jobs, in no order), 'jobs' (those of a user that ended without an entry), 'deliveries' (those
--      that wait: {fields, when the next try is due}), or a family of records
-- -> {next ('' after the last page), rows = {{id, fields} or {name, record} ...}, jobs = {job ...},
--    now_ms}
local MAX_RECEIVERS = 5
local what, from, count = ARGV[1], ARGV[2], tonumber(ARGV[3])
local rows, jobs, next_page = {}, {}, ''

local function add_job(id)
  local job = copied_job(id)
  if job then jobs[#jobs + 1] = job end
end

local function add_stream(key)
  rows = redis.call('XRANGE', key, from == '' and '-' or '(' .. from, '+', 'COUNT', count)
  if #rows == count then next_page = rows[#rows][1] end
end

-- The entry of its end says which job it was: there is one of each.
local function job_of(fields)
  local kind, job
  for i = 1, #fields, 2 do
    if fields[i] == 'kind' then kind = fields[i + 1] end
    if fields[i] == 'job' then job = fields[i + 1] end
  end
  return (kind == 'settle' or kind == 'release') and job
end

local function page_number(cursor)
  return cursor == '0' and '' or cursor
end

if what == 'entries' then
  add_stream(K.stream)
  for _, entry in ipairs(rows) do
    local job = job_of(entry[2])
    if job then add_job(job) end
  end
elseif what == 'audit' then
  add_stream(K.audit)
elseif what == 'due' or what == 'collect' then
  local page = scan_members(K[what], from == '' and '0' or from, count)
  next_page = page_number(page[1])
  for i = 1, #page[2], 2 do add_job(page[2][i]) end
elseif what == 'deliveries' then
  -- By cursor: gateways deliver meanwhile, and with that the order changes.
  local page = scan_members(K.receivers, from == '' and '0' or from, MAX_RECEIVERS)
  next_page = page_number(page[1])
  for at = 1, #page[2], 2 do
    local receiver = page[2][at]
    local waiting = redis.call('ZRANGE', K.deliveries .. receiver, 0, -1, 'WITHSCORES')
    for i = 1, #waiting, 2 do
      rows[#rows + 1] = { redis.call('HGETALL', K.delivery .. waiting[i]), int(waiting[i + 1]) }
    end
  end
elseif what == 'jobs' then
  local page = scan_members(K.jobs .. ARGV[4], from == '' and '0' or from, count)
  next_page = page_number(page[1])
  for at = 1, #page[2], 2 do
    local id = page[2][at]
    local job = read_fields(K.job .. id, 'state', 'entry', 'attempt')
    local has_entry = job.entry or job.attempt == '-'  -- tidy_jobs.lua took it
    if job.state and not OPEN[job.state] and not has_entry then add_job(id) end
  end
else
  local family = K[what]
  local page = redis.pcall('HSCAN', family, from == '' and '0' or from, 'COUNT', count)
  if page.err then page = { '0', redis.call('HGETALL', family) } end
  next_page = page_number(page[1])
  for i = 1, #page[2], 2 do rows[#rows + 1] = { page[2][i], page[2][i + 1] } end
end
return named({ next = next_page, rows = rows, jobs = jobs, now_ms = now_ms })
