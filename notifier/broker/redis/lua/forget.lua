-- Removes what is stored for one user alone. This takes a seq, and the meta says that everything up to it is trimmed:
-- every earlier cursor is reset, also the newest possible one.
--
-- KEYS  seq, meta, then the keys to delete: log, read marks, hidden
-- ARGV  1 ttl of the meta (s)
-- Answer: OK

if not counter_of(KEYS[1]) then return foreign_counter() end
local seq = whole(redis.call('INCR', KEYS[1]))
redis.call('HSET', KEYS[2], 'last', seq, 'low', seq)
redis.call('EXPIRE', KEYS[2], ARGV[1])
for i = 3, #KEYS do redis.call('DEL', KEYS[i]) end
return redis.status_reply('OK')
