-- Marks a user's messages as read or deleted, and announces the change to the user's streams.
--
-- KEYS  seq, read marks, hidden, then for each channel: its log
-- ARGV  1 'read', 'all' or 'delete', 2 now (ms), 3 ttl of the marks (s), 4 most marks, 5 PUBLISH or SPUBLISH,
--       6 the user's pub/sub channel, 7 most ids of one announcement, then the message ids
-- Answer: unread, the ids that changed

local action, now_ms = ARGV[1], tonumber(ARGV[2])
local top = counter_of(KEYS[1])
if not top then return foreign_counter() end
local read_key, hidden_key = KEYS[2], KEYS[3]
local lists = {}
for i = 4, #KEYS do lists[#lists + 1] = entries_after(KEYS[i], 0) end
local wanted = {}
for i = 8, #ARGV do wanted[ARGV[i]] = true end

local changed = {}
each_message(lists, read_key, hidden_key, now_ms, function(entry, is_read)
  -- A longer id, or one with other characters, was not written by notifier, and would break the frames below.
  if #entry.m > 64 or string.find(entry.m, '[^%w._-]') then return end
  if action == 'delete' then
    if wanted[entry.m] then
      redis.call('ZADD', hidden_key, entry.seq, entry.m)
      changed[#changed + 1] = entry.m
    end
  elseif not is_read and (action == 'all' or wanted[entry.m]) then
    if action == 'read' then redis.call('ZADD', read_key, entry.seq, entry.m) end
    changed[#changed + 1] = entry.m
  end
end)

if action == 'all' then
  redis.call('ZREMRANGEBYSCORE', read_key, '-inf', whole(top))
  redis.call('ZADD', read_key, whole(top), READ_UP_TO)
end
for _, key in ipairs({ read_key, hidden_key }) do
  -- Rank 0 is spared: it may be READ_UP_TO.
  redis.call('ZREMRANGEBYRANK', key, 1, -tonumber(ARGV[4]) - 1)
  redis.call('EXPIRE', key, ARGV[3])
end

local unread = count_unread(lists, read_key, hidden_key, now_ms)
local most = tonumber(ARGV[7])
for first = 1, #changed, most do
  local ids = '["' .. table.concat(changed, '","', first, math.min(first + most - 1, #changed)) .. '"]'
  local read = action == 'delete' and '[]' or ids
  local deleted = action == 'delete' and ids or '[]'
  redis.call(ARGV[5], ARGV[6], '- 0 0 -\nevent: inbox\ndata: {"read":' .. read .. ',"deleted":' .. deleted ..
    ',"unread":' .. unread .. '}\n\n')
end
return { unread, changed }
