-- Notes when users were last seen.
--
-- KEYS  a key of each user
-- ARGV  1 ttl (s) of the keys, then a time (Unix, ms) for each, or 0: removes it

for place, key in ipairs(KEYS) do
  local at = ARGV[place + 1]
  if at == '0' then call('DEL', key) else call('SET', key, at, 'EX', ARGV[1]) end
end
