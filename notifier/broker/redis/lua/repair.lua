-- Renames keys that do not hold what our names stand for (also a log without entries, or one that ends at an id which is
-- out of all order: nothing could ever be added to it), to <key>:foreign, kept for a day to be looked at.
--
-- KEYS  any of ours    ARGV  for each: the type it must have ('number': a string that INCR takes)
-- Answer: the keys that were renamed

local quarantined = {}
for i, key in ipairs(KEYS) do
  local found = redis.call('TYPE', key).ok
  local wanted = ARGV[i] == 'number' and 'string' or ARGV[i]
  local sound = found == 'none' or found == wanted
  if sound and ARGV[i] == 'number' and found == 'string' then
    sound = number_of(redis.call('GET', key)) ~= nil
  elseif sound and found == 'stream' then
    local newest = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
    sound = newest ~= nil and seq_of(newest[1]) < MAX_SEQ
  end
  if not sound then
    redis.call('RENAME', key, key .. ':foreign')
    redis.call('EXPIRE', key .. ':foreign', 86400)
    quarantined[#quarantined + 1] = key
  end
end
return quarantined
