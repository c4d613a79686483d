#!lua
-- Would the store take a write now? This writes nothing, but runs only where writing is allowed.
-- KEYS [1] slot -> 'ready'
return 'ready'
