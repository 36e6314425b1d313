-- Quarantines keys with foreign values: renames them to <key>:foreign, which expires after a day. Foreign is a value of
-- another type, a log without entries, and a log whose last id is so high that no entry could be added.
--
-- KEYS  any keys of notifier, then for each its <key>:foreign
-- ARGV  for each, its type ('number': a string for INCR)
-- Answer: the keys that were renamed

local quarantined = {}
for i = 1, #ARGV do
  local key, foreign = KEYS[i], KEYS[#ARGV + i]
  local actual = redis.call('TYPE', key).ok
  local expected = ARGV[i] == 'number' and 'string' or ARGV[i]
  local sound = actual == 'none' or actual == expected
  if sound and ARGV[i] == 'number' and actual == 'string' then
    sound = number_of(redis.call('GET', key)) ~= nil
  elseif sound and actual == 'stream' then
    local newest = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
    sound = newest ~= nil and seq_of(newest[1]) < MAX_SEQ
  end
  if not sound then
    redis.call('RENAME', key, foreign)
    redis.call('EXPIRE', foreign, 86400)
    quarantined[#quarantined + 1] = key
  end
end
return quarantined
