-- The audit log: one record for each change of a user, team, key or spending stop, and for each
-- correction of the ledger.

local MAX_AUDIT = 100000  -- records kept in the store; the journal has the older ones
local NOUNS = { users = 'user', teams = 'team', keys = 'key' }
-- What is no value that somebody set, and all that comes of a secret.
local UNAUDITED = {
  id = true, digest = true, ending = true, created_ms = true, at_ms = true, webhook_secret = true,
  webhook_secret_before = true,
}

-- The values of a record, with its limits beside them, and those of its raise.
local function audited_values(text, name)
  local values = {}
  local row = text and cjson.decode(text) or {}
  for field, value in pairs(row) do
    if field == 'limits' then
      for limit, most in pairs(value) do values[limit] = most end
    elseif field == 'raise' and type(value) == 'table' then
      for part, by in pairs(value) do values['raise_' .. part] = by end
    elseif not UNAUDITED[field] and not (field == 'name' and value == name) then
      values[field] = value
    end
  end
  if row.invited then
    values.user, values.invited, values.invitation = row.invited, nil, true
  end
  local scopes = row.admin or row.team_admin
  if scopes then
    values.user, values.admin, values.team_admin, values.scopes = nil, nil, nil, scopes
  end
  return values, row
end

local function is_set(value)
  return value ~= nil and value ~= cjson.null and value ~= '' and value ~= false
end

-- {field = {old, new}} of the values that differ.
local function audited_changes(old, new)
  local differing = {}
  local function compare(field)
    local a, b = old[field], new[field]
    local was, is = is_set(a) and cjson.encode(a), is_set(b) and cjson.encode(b)
    if was ~= is then differing[field] = { was and a or cjson.null, is and b or cjson.null } end
  end
  for field in pairs(old) do compare(field) end
  for field in pairs(new) do compare(field) end
  return differing
end

-- Whether a value that somebody saw in a record is another one now. What they could not see, since a
-- later version wrote it, does not count.
local function has_changed(seen, now, name)
  local was, is = audited_values(seen, name), audited_values(now, name)
  for field in pairs(is) do
    if was[field] == nil then is[field] = nil end
  end
  return next(audited_changes(was, is)) ~= nil
end

-- Add a record to the log; returns it as JSON for the journal. `note` is {actor, kind, reason}.
local function write_audit(note, target, user, team, differing)
  local fields = {
    'actor', note.actor, 'kind', note.kind, 'target', target, 'reason', note.reason,
    'changes', cjson.encode(differing),
  }
  for noun, value in pairs({ user = user, team = team }) do
    if type(value) == 'string' then
      fields[#fields + 1] = noun
      fields[#fields + 1] = value
    end
  end
  local id = redis.call('XADD', K.audit, 'MAXLEN', '~', MAX_AUDIT, '*', unpack(fields))
  return cjson.encode({ id = id, fields = fields })
end

-- The same for the change of a record, with its old and new values; nil when nothing changed. Another
-- secret is a change, though the log says none of it.
local function append_audit(note, family, name, before, after)
  local old = audited_values(before, name)
  local new, row = audited_values(after, name)
  local differing = audited_changes(old, new)
  local same_secret = before and cjson.decode(before).digest == row.digest
  if same_secret and next(differing) == nil then return nil end
  local user, team, is_admin = nil, nil, row.admin or row.team_admin
  if family == 'users' then
    user, team = name, row.team
  elseif family == 'teams' then
    team = name
  elseif family == 'keys' and not is_admin then
    user = row.invited or row.user
    local owner = redis.call('HGET', K.users, user)
    team = owner and cjson.decode(owner).team
  elseif family == 'stops' then
    local whose = row.scope or name
    user, team = string.match(whose, '^user:(.+)$'), string.match(whose, '^team:(.+)$')
  end
  local target = name
  if NOUNS[family] then target = (is_admin and 'admin_key' or NOUNS[family]) .. ':' .. name end
  return write_audit(note, target, user, team, differing)
end
