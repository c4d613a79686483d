#!lua flags=no-writes
-- KEYS [1] slot -> id of the latest change laid out for the gateways, or nothing
local found = redis.call('XREVRANGE', K.changes, '+', '-', 'COUNT', 1)[1]
return found and found[1] or false
