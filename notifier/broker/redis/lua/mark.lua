-- Marks a user's messages as read or deleted, and announces the change to the user's streams. The service has looked at
-- the marks and logs before (messages.lua), and chose the messages and counted.
--
-- KEYS  epoch, read marks, hidden, then for each channel: its log
-- ARGV  1 'read', 'all' or 'delete', 2 now (ms), 3 ttl of the marks (s), 4 most marks, 5 PUBLISH or SPUBLISH,
--       6 the user's pub/sub channel, as that look had them: 7 epoch, 8 top seq, 9 number of read marks, 10 of hidden
--       ones, 11 seq up to which all is read, 12 version of the marks; 13 unread after the change,
--       14 number of announcements, 15 the user's id between line ends,
--       then for each announcement: its ids, then for each message to mark: its seq, its id
-- Answer: unread; -1: another call has changed the marks since that look

local action, now_ms, read_key, hidden_key = ARGV[1], tonumber(ARGV[2]), KEYS[2], KEYS[3]
local top, up_to = tonumber(ARGV[8]), read_up_to(read_key)
local version = version_of(hidden_key)
-- The version is that of the processes that know it; an older service changes the other numbers.
local is_same = redis.call('GET', KEYS[1]) == ARGV[7] and up_to == tonumber(ARGV[11]) and version == tonumber(ARGV[12])
  and redis.call('ZCARD', read_key) == tonumber(ARGV[9]) and redis.call('ZCARD', hidden_key) == tonumber(ARGV[10])
if not is_same then return -1 end

-- The messages since that look are unread.
local lists = {}
for i = 4, #KEYS do lists[#lists + 1] = entries_after(KEYS[i], top) end
local unread = tonumber(ARGV[13]) + count_unread(lists, read_key, hidden_key, now_ms, ARGV[15])

local first = 16 + tonumber(ARGV[14])
local marks = action == 'delete' and hidden_key or read_key
for i = first, #ARGV, 2 do redis.call('ZADD', marks, ARGV[i], ARGV[i + 1]) end
if action == 'all' then
  redis.call('ZREMRANGEBYSCORE', read_key, '-inf', whole(top))
  redis.call('ZADD', read_key, whole(top), READ_UP_TO)
end
redis.call('ZADD', hidden_key, whole(version - 1), VERSION)
for _, key in ipairs({ read_key, hidden_key }) do
  -- Rank 0 is spared: it may be READ_UP_TO, or is VERSION.
  redis.call('ZREMRANGEBYRANK', key, 1, -tonumber(ARGV[4]) - 1)
  redis.call('EXPIRE', key, ARGV[3])
end

for i = 16, first - 1 do
  local read = action == 'delete' and '' or ARGV[i]
  local deleted = action == 'delete' and ARGV[i] or ''
  redis.call(ARGV[5], ARGV[6], '- 0 0 -\nevent: inbox\ndata: {"read":[' .. read .. '],"deleted":[' .. deleted ..
    '],"unread":' .. whole(unread) .. '}\n\n')
end
return unread
