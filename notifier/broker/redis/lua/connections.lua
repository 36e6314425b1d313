-- Stores records of the connections of users. A record has two entries at most, so that the last connections of a user
-- are among twice as many entries.
--
-- KEYS  the records of each user
-- ARGV  1 ttl (s) of the keys, 2 most entries of a user, then for each user: the number of records, and id and text of
--       each; without records, the key is removed

local at = 3
for _, key in ipairs(KEYS) do
  local count = tonumber(ARGV[at])
  at = at + 1
  if count == 0 then call('DEL', key) end
  for _ = 1, count do
    call('XADD', key, 'MAXLEN', ARGV[2], '*', 'i', ARGV[at], 'r', ARGV[at + 1])
    at = at + 2
  end
  if count > 0 then call('EXPIRE', key, ARGV[1]) end
end
