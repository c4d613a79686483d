#!lua
-- Would the store take a write_job now? Writes nothing, but runs only where writing is allowed.
-- KEYS [1] slot -> 'ready'
return 'ready'
