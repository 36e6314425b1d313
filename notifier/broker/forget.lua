-- Removes what is kept for one user alone. The meta stays, and says that everything is trimmed: a cursor from before gets
-- a reset and not a silently short replay.
--
-- KEYS  meta, then what is deleted: log, read marks, hidden, index of tasks

local last = redis.call('HGET', KEYS[1], 'last')
if last then redis.call('HSET', KEYS[1], 'low', last) end
for i = 2, #KEYS do redis.call('DEL', KEYS[i]) end
return 1
