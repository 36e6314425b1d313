-- Where the histories of channels have a message, or had it, and whether a user has read it.
--
-- KEYS  epoch, read marks, hidden, then for each channel: its messages, its meta
-- ARGV  1 fresh epoch, 2 message id
-- Answer: epoch, 1 if it is marked as read or deleted, seq up to which all is read, then for each place: the number of
--   the channel, seq, when it was accepted and by whom or '', expiry (ms), excluded users or '', when it was corrected
--   or '', why it left the history or '', and when (ms)

local epoch, id = current_epoch(KEYS[1], ARGV[1]), ARGV[2]
local is_marked = call('ZSCORE', KEYS[2], id) or call('ZSCORE', KEYS[3], id)
local answer = { epoch, is_marked and 1 or 0, read_up_to(KEYS[2]) }

local function add(number, seq, entry, why, left_ms)
  local place = { number, seq, entry.a or '', number_of(entry.x) or 0, entry.n or '', entry.c or '', why, left_ms }
  for _, value in ipairs(place) do answer[#answer + 1] = value end
end

-- The lists that note_left() stores.
local function each_left(meta_key, visit)
  local is_list, list = pcall(cjson.decode, call('HGET', meta_key, 'left') or '[]')
  for _, left in ipairs(is_list and type(list) == 'table' and list or {}) do
    if type(left) == 'table' and left[4] == id then visit(left) end
  end
end

for i = 4, #KEYS, 2 do
  local number, before = (i - 4) / 2, #answer
  each_with_id(KEYS[i], id, function(_, entry) add(number, entry.seq, entry, '', 0) end)
  if #answer == before then
    each_left(KEYS[i + 1], function(left)
      local entry = { a = left[5], x = left[6], n = left[7], c = left[8] }
      add(number, number_of(left[3]) or 0, entry, left[1], number_of(left[2]) or 0)
    end)
  end
end
return answer
