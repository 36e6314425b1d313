-- One page of a user's messages, newest first.
--
-- KEYS  epoch, seq, read marks, hidden, then for each channel: its log
-- ARGV  1 fresh epoch, 2 now (ms), 3 most messages, 4 before this message id ('': from the newest), 5 '1': unread only
-- Answer: epoch, top seq, unread, more (0 or 1), then for each message: frame, read (0 or 1)

local now_ms, limit, before, unread_only = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5] == '1'
local lists = {}
for i = 5, #KEYS do lists[#lists + 1] = entries_after(KEYS[i], 0) end

-- Seq of a message. Read from the logs, because the user may have deleted the message: its seq still places the page.
local function seq_of_message(id)
  for _, entries in ipairs(lists) do
    for _, entry in ipairs(entries) do
      if entry.m == id then return entry.seq end
    end
  end
end

local all, unread, before_seq = {}, 0, nil
if before ~= '' then before_seq = seq_of_message(before) end
each_message(lists, KEYS[3], KEYS[4], now_ms, function(entry, is_read)
  if not is_read then unread = unread + 1 end
  entry.read = is_read and 1 or 0
  all[#all + 1] = entry
end)
table.sort(all, function(a, b) return a.seq > b.seq end)

local top = counter_of(KEYS[2])
if not top then return foreign_counter() end
local answer = { current_epoch(KEYS[1], ARGV[1]), top, unread, 0 }
-- If the message has left the logs, so have all older ones.
if before ~= '' and not before_seq then return answer end
local taken = 0
for _, entry in ipairs(all) do
  if entry.f and (not before_seq or entry.seq < before_seq) and not (unread_only and entry.read == 1) then
    if taken == limit then
      answer[4] = 1
      break
    end
    taken = taken + 1
    answer[#answer + 1] = entry.f
    answer[#answer + 1] = entry.read
  end
end
return answer
