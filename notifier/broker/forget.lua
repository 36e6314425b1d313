-- Removes what is kept for one user alone. The meta stays, and says that everything is trimmed: a cursor from before gets
-- a reset and not a silently short replay.
--
-- KEYS  meta, the user's index of tasks, then what is deleted: log, read marks, hidden
-- ARGV  1 prefix of task keys, 2 the user's channel
-- Answer: ids of tasks that nobody else watched

local gone = {}
local last = redis.call('HGET', KEYS[1], 'last')
if last then redis.call('HSET', KEYS[1], 'low', last) end
for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  local readable, task = pcall(cjson.decode, redis.call('HGET', ARGV[1] .. id, 'record') or '')
  local to = readable and type(task) == 'table' and type(task.to) == 'table' and task.to or {}
  -- Others may watch it too: then it is theirs.
  if #to == 1 and to[1] == ARGV[2] then
    redis.call('DEL', ARGV[1] .. id)
    gone[#gone + 1] = id
  end
end
for i = 2, #KEYS do redis.call('DEL', KEYS[i]) end
return gone
