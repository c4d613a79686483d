#!lua flags=no-writes
-- KEYS [1] slot -> now ms
return now_ms
