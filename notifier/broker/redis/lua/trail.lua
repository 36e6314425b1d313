-- Where the histories of channels have a message, and whether a user has read it.
--
-- KEYS  epoch, read marks, hidden, then for each channel: its messages
-- ARGV  1 fresh epoch, 2 message id
-- Answer: epoch, 1 if it is marked as read or deleted, seq up to which all is read, then for each place: the number of
--   the channel, seq, when it was accepted and by whom or '', expiry (ms), excluded users or ''

local epoch, id = current_epoch(KEYS[1], ARGV[1]), ARGV[2]
local is_marked = call('ZSCORE', KEYS[2], id) or call('ZSCORE', KEYS[3], id)
local answer = { epoch, is_marked and 1 or 0, read_up_to(KEYS[2]) }
for i = 4, #KEYS do
  each_with_id(KEYS[i], id, function(_, entry)
    local n = #answer
    answer[n + 1], answer[n + 2], answer[n + 3] = i - 4, entry.seq, entry.a or ''
    answer[n + 4], answer[n + 5] = number_of(entry.x) or 0, entry.n or ''
  end)
end
return answer
