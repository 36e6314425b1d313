-- Replaces entries of a user's records of connections by fewer. Does nothing where one of them has gone meanwhile: another
-- process has replaced it, or the user was forgotten.
--
-- KEYS  1 the records of the user
-- ARGV  1 number of entries to remove, their ids, then id and text of each record to add

local key, count = KEYS[1], tonumber(ARGV[1])
for i = 2, count + 1 do
  if not call('XRANGE', key, ARGV[i], ARGV[i])[1] then return 0 end
end
call('XDEL', key, unpack(ARGV, 2, count + 1))
for i = count + 2, #ARGV, 2 do call('XADD', key, '*', 'i', ARGV[i], 'r', ARGV[i + 1]) end
return 1
