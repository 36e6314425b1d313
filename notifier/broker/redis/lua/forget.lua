-- Removes what is stored for one user alone. This takes a seq, and the meta says that everything up to it is trimmed:
-- every earlier cursor is reset, also the newest possible one.
--
-- KEYS  seq, meta, then the keys to delete: messages, events, read marks, hidden
-- ARGV  1 ttl of the meta (s)
-- Answer: OK

if not counter_of(KEYS[1]) then return foreign_counter() end
local seq = redis.call('INCR', KEYS[1])
store_meta(KEYS[2], { last = seq, m = 0, e = 0, mlow = seq, elow = seq }, ARGV[1])
redis.call('HDEL', KEYS[2], 'left')
for i = 3, #KEYS do redis.call('DEL', KEYS[i]) end
return redis.status_reply('OK')
