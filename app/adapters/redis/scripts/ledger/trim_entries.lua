#!lua
-- Take some entries of months that are in files out of the stream. Stopped in between it is gone on with.
-- KEYS [1] slot  ARGV [1] epoch [2] how many
-- -> {trimmed} | {denied = 1} (the store's user may not delete entries)
local stored = redis.call('MGET', K.epoch, K.suspect)
local months = read_fields(K.months, 'epoch', 'upto')
if not months.upto or months.epoch ~= ARGV[1] or stored[1] ~= ARGV[1] or stored[2] then
  return named({ trimmed = 0 })
end
local ids = {}
for i, entry in ipairs(redis.call('XRANGE', K.stream, '-', int(months.upto - 1), 'COUNT', ARGV[2])) do
  ids[i] = entry[1]
end
if #ids == 0 then return named({ trimmed = 0 }) end
local gone = redis.pcall('XDEL', K.stream, unpack(ids))
if type(gone) == 'table' and gone.err then return named({ denied = 1 }) end
return named({ trimmed = #ids })
