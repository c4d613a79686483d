#!lua flags=no-writes
-- A user's deliveries, newest first.
-- KEYS [1] slot  ARGV [1] {user, limit, failed?}
-- -> {deliveries = {{field, value ...} ...}}
local ask = cjson.decode(ARGV[1])
local found = {}
for _, id in ipairs(redis.call('ZREVRANGE', K.delivery_log .. ask.user, 0, -1)) do
  if #found >= ask.limit then break end
  local key = K.delivery .. id
  local delivery = read_fields(key, 'state', 'error', 'receiver')
  local wanted = delivery.state
  if ask.failed then
    local failed = delivery.error and delivery.error ~= '' and delivery.state ~= 'delivered'
    wanted = wanted and (failed or delivery.state == 'dropped')
  end
  if wanted then
    local fields = redis.call('HGETALL', key)
    fields[#fields + 1] = 'due'
    fields[#fields + 1] = redis.call('ZSCORE', K.deliveries .. delivery.receiver, id) or ''
    found[#found + 1] = fields
  end
end
return named({ deliveries = found })
