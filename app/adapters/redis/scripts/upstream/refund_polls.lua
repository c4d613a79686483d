#!lua flags=allow-oom
-- Remove the last of some granted polls from the log: they were not made.
-- KEYS [1] turns  ARGV [1] limits [2] their name [3] how many were granted [4] how many were made
-- -> 1
for poll = ARGV[4], ARGV[3] - 1 do
  redis.call('ZREM', K.turns, 'poll ' .. ARGV[2] .. ':' .. int(poll))
end
return 1
