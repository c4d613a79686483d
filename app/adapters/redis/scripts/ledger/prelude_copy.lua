-- A job as a backup copies it: {record, milliseconds that it will be kept or -1}; nil when it is gone.
local function copied_job(id)
  local fields = record(id)
  return #fields > 0 and { fields, redis.call('PTTL', K.job .. id) } or nil
end
