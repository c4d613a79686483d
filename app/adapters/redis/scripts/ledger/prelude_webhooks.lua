-- What the end of a task tells: one delivery for each webhook that asked for it.

local WEBHOOK_LIFETIME_MS = 86400000
local MAX_WEBHOOKS = 20  -- URLs that are told of one task

local function wants_event(hook, kind)
  for _, event in ipairs(hook.events or {}) do
    if event == kind then return true end
  end
  return not hook.events or #hook.events == 0
end

-- The same end of a task is told once to each URL of a user, however often it is written; `asked` tells
-- apart requests that were answered with a task that had ended before.
local function webhook_id(job_id, kind, hook, asked)
  local what = table.concat({ job_id, kind, hook.user, hook.url, asked or '' }, ' ')
  return 'msg_' .. string.sub(redis.sha1hex(what), 1, 32)
end

-- An earlier end of the same task that is still to be told is not told any more, or goes first.
local function settle_order(job_id, kind, hook)
  if kind ~= 'task.completed' then return nil end
  local id = webhook_id(job_id, 'task.failed', hook)
  local before = read_fields(K.delivery .. id, 'state', 'user', 'receiver', 'leased')
  if before.state ~= 'waiting' then return nil end
  if tonumber(before.leased or 0) > now_ms then return id end
  end_delivery(id, before, 'superseded')
  return nil
end

local function open_webhook(job_id, kind, hook, asked)
  if not wants_event(hook, kind) then return end
  local fields = { 'job', job_id, 'type', kind, 'origin', hook.origin }
  local after = settle_order(job_id, kind, hook)
  if after then fields[7], fields[8] = 'after', after end
  local id = webhook_id(job_id, kind, hook, asked)
  open_delivery(id, hook.user, hook.url, hook.lifetime or WEBHOOK_LIFETIME_MS, fields)
end

-- A job's task ended with this status; `hooks` is what the job's field holds, if anything.
local function tell_webhooks(job_id, hooks, status)
  if not hooks then return end
  for _, hook in ipairs(cjson.decode(hooks)) do open_webhook(job_id, 'task.' .. status, hook) end
end
