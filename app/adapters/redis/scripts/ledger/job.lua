#!lua flags=no-writes
-- KEYS [1] slot  ARGV [1] job id -> its record, empty when there is none
return record(ARGV[1])
