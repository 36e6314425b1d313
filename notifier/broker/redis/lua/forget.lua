-- Removes what is stored for one user alone. This takes a seq, and the meta says that everything up to it is trimmed:
-- every earlier cursor is reset, also the newest possible one.
--
-- KEYS  seq, meta, the user's index of tasks, then the keys to delete: log, read marks, hidden
-- ARGV  1 prefix of task keys, 2 the user's channel, 3 ttl of the meta (s)
-- Answer: ids of the tasks that had no other recipient

local removed = {}
if not counter_of(KEYS[1]) then return foreign_counter() end
local seq = whole(redis.call('INCR', KEYS[1]))
redis.call('HSET', KEYS[2], 'last', seq, 'low', seq)
redis.call('EXPIRE', KEYS[2], ARGV[3])
for _, id in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
  local readable, task = pcall(cjson.decode, record_of(ARGV[1] .. id) or '')
  local to = readable and type(task) == 'table' and type(task.to) == 'table' and task.to or {}
  -- A task with other recipients stays.
  if #to == 1 and to[1] == ARGV[2] then
    redis.call('DEL', ARGV[1] .. id)
    removed[#removed + 1] = id
  end
end
for i = 3, #KEYS do redis.call('DEL', KEYS[i]) end
return removed
