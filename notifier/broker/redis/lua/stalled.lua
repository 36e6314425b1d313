-- The tasks whose last heartbeat is too old, oldest first. A heartbeat without a task is removed: the task expired, was
-- deleted, or is a foreign value.
--
-- KEYS  last heartbeats
-- ARGV  1 prefix of task keys, 2 before (ms), 3 most tasks
-- Answer: for each task: its id, its record

local beats, prefix, before, most = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local answer, kept = {}, 0
-- What is left after a few steps of removals is removed by the next call.
for _ = 1, 5 do
  local ids = redis.call('ZRANGE', beats, '-inf', '(' .. before, 'BYSCORE', 'LIMIT', kept, most - kept)
  for _, id in ipairs(ids) do
    local record = record_of(prefix .. id)
    if record then
      answer[#answer + 1], answer[#answer + 2] = id, record
      kept = kept + 1
    else
      redis.call('ZREM', beats, id)
    end
  end
  if #ids == 0 or kept == most then break end
end
return answer
