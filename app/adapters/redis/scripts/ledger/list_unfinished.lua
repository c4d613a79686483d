#!lua flags=no-writes
-- A page of the jobs that are open, or of those with images pending, in no order.
-- KEYS [1] slot  ARGV [1] 'due' or 'collect' [2] where the page begins ('0' at first) [3] rows of a page
-- -> {next ('0' after the last page), members = {id, due ms ...}}
local page = scan_members(K[ARGV[1]], ARGV[2], ARGV[3])
return named({ next = page[1], members = page[2] })
