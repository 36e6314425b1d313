-- Renames keys that do not hold what our names stand for, to <key>:foreign, kept for a day to be looked at.
--
-- KEYS  any of ours    ARGV  for each: the type it must have ('number': a string that INCR takes)
-- Answer: the keys that were renamed

local aside = {}
for i, key in ipairs(KEYS) do
  local found = redis.call('TYPE', key).ok
  local wanted = ARGV[i] == 'number' and 'string' or ARGV[i]
  local sound = found == 'none' or found == wanted
  if sound and ARGV[i] == 'number' and found == 'string' then
    sound = string.match(redis.call('GET', key), '^%d+$') ~= nil
  end
  if not sound then
    redis.call('RENAME', key, key .. ':foreign')
    redis.call('EXPIRE', key .. ':foreign', 86400)
    aside[#aside + 1] = key
  end
end
return aside
