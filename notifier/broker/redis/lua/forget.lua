-- Removes what is kept for one user alone. The forgetting takes a place in the order, and the meta says that everything up
-- to it is trimmed: every cursor from before gets a reset, also one that had seen all.
--
-- KEYS  seq, meta, the user's index of tasks, then what is deleted: log, read marks, hidden
-- ARGV  1 prefix of task keys, 2 the user's channel, 3 keep meta (s)
-- Answer: ids of tasks that nobody else watched

local gone = {}
local seq = whole(redis.call('INCR', KEYS[1]))
redis.call('HSET', KEYS[2], 'last', seq, 'low', seq)
redis.call('EXPIRE', KEYS[2], ARGV[3])
for _, id in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
  local readable, task = pcall(cjson.decode, redis.call('HGET', ARGV[1] .. id, 'record') or '')
  local to = readable and type(task) == 'table' and type(task.to) == 'table' and task.to or {}
  -- Others may watch it too: then it is theirs.
  if #to == 1 and to[1] == ARGV[2] then
    redis.call('DEL', ARGV[1] .. id)
    gone[#gone + 1] = id
  end
end
for i = 3, #KEYS do redis.call('DEL', KEYS[i]) end
return gone
