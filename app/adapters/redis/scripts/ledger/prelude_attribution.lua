-- For whom and for what a job is, as its caller says. Most jobs say nothing: then nothing is read or
-- written. Reports group by these words, so that their number is bounded where they come in.

local OTHER = '(other)'

-- Add to a new job's fields what it is counted as, where that is not what its caller said: of each name
-- at most `most` different values of a user and month are told apart. '#<name>' counts them.
local function add_counted_as(fields, ask, day)
  if not ask.attributed then return end
  local own, counted, differs = K.attributed .. day.month .. ':' .. ask.user, {}, false
  for name, value in pairs(ask.attributed.said) do
    local field = name .. ':' .. value
    local known, count = unpack(redis.call('HMGET', own, field, '#' .. name))
    counted[name] = value
    if not known and tonumber(count or 0) < ask.attributed.most then
      redis.call('HSET', own, field, '1')
      redis.call('HINCRBY', own, '#' .. name, 1)
      redis.call('PEXPIREAT', own, int(day.month_ends + 86400000))
    elseif not known then
      counted[name], differs = OTHER, true
    end
  end
  if differs then
    fields[#fields + 1] = 'counted_as'
    fields[#fields + 1] = cjson.encode(counted)
  end
end
