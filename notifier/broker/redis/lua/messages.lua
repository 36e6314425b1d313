-- Where a user's messages are, without their frames: a portion. The service keeps what it has read of each log and asks
-- for the rest.
--
-- KEYS  epoch, seq, read marks, hidden, then for each channel: its messages, its meta
-- ARGV  1 fresh epoch, 2 '1': with the marks, 3 most entries and 4 most bytes of a portion (both are exceeded by a few
--       entries), then for each channel: the seq after which its log is read
-- Answer: epoch, top seq, seq up to which all is read, ids of the read marks, of the hidden ones, version of the marks,
--   then for each log that was begun: {its length, seq up to which it was read, its `gone`, seq, message id or '', expiry (ms),
--   excluded users or '', ...}

local STEP = 64
local entries_left, bytes_left = tonumber(ARGV[3]), tonumber(ARGV[4])
local epoch = current_epoch(KEYS[1], ARGV[1])
local top = counter_of(KEYS[2])
if not top then return foreign_counter() end

local answer = { epoch, top, read_up_to(KEYS[3]), {}, {}, version_of(KEYS[4]) }
if ARGV[2] == '1' then
  answer[4] = redis.call('ZRANGE', KEYS[3], 0, -1)
  answer[5] = redis.call('ZRANGE', KEYS[4], 0, -1)
end

for i = 5, #KEYS, 2 do
  local after, list = tonumber(ARGV[(i + 5) / 2]), { redis.call('XLEN', KEYS[i]), 0 }
  list[3] = redis.call('HGET', KEYS[i + 1], 'gone') or ''
  local entries
  repeat
    -- Up to the counter: an entry above it is foreign.
    entries = redis.call('XRANGE', KEYS[i], whole(after + 1) .. '-0', whole(top), 'COUNT', STEP)
    for _, raw in ipairs(entries) do
      local entry = entry_of(raw)
      after = entry.seq
      bytes_left = bytes_left - #(entry.f or '')
      local n = #list
      list[n + 1], list[n + 2], list[n + 3] = after, entry.f and entry.m or '', number_of(entry.x) or 0
      list[n + 4] = entry.n or ''
    end
    entries_left = entries_left - #entries
  until #entries < STEP or entries_left <= 0 or bytes_left <= 0
  list[2] = #entries < STEP and top or after
  answer[#answer + 1] = list
  if entries_left <= 0 or bytes_left <= 0 then break end
end
return answer
