-- The tasks of a user's channels, last changed first.
--
-- KEYS  hidden, then for each channel: its index of tasks
-- ARGV  1 prefix of task keys, 2 most tasks of a channel, 3 most tasks
-- Answer: records

-- The ids of the newest tasks of each channel, by their time.
local function newest_ids()
  local ids, times = {}, {}
  for i = 2, #KEYS do
    local rows = redis.call('ZREVRANGE', KEYS[i], 0, ARGV[2] - 1, 'WITHSCORES')
    for n = 1, #rows, 2 do
      local id = rows[n]
      if not times[id] then ids[#ids + 1] = id end
      times[id] = math.max(times[id] or 0, tonumber(rows[n + 1]))
    end
  end
  table.sort(ids, function(a, b) return times[a] > times[b] end)
  return ids
end

local records, most = {}, tonumber(ARGV[3])
-- Ids of expired tasks are removed from the indexes, and the next ones are read in their place, in a few steps.
for _ = 1, 5 do
  local removed = false
  records = {}
  for _, id in ipairs(newest_ids()) do
    if #records == most then break end
    local record = record_of(ARGV[1] .. id)
    if not record then
      for i = 2, #KEYS do redis.call('ZREM', KEYS[i], id) end
      removed = true
    elseif not redis.call('ZSCORE', KEYS[1], 't:' .. id) then
      records[#records + 1] = record
    end
  end
  if not removed then break end
end
return records
