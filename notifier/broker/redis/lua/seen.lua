-- Notes when users were last seen.
--
-- KEYS  a key of each user
-- ARGV  1 ttl (s) of the keys, then a time (Unix, ms) for each

for place, key in ipairs(KEYS) do
  call('SET', key, ARGV[place + 1], 'EX', ARGV[1])
end
