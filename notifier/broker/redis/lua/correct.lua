-- Reads the frames of a message in the histories of channels, or replaces them in place and announces the new ones.
--
-- KEYS  the messages of the channels
-- ARGV  1 message id, 2 '' to read, else PUBLISH or SPUBLISH;
--       then to replace, for each channel: the frame that was read, the new frame, its pub/sub channel,
--       the first line of the announcement
-- Answer: to read, for each channel: its frame, and the users that do not get it; '' and '' without the message
--       | to replace: 1, or 0 if a frame is no longer the one that was read: nothing has changed then

local answer, logs = {}, {}
for i, log in ipairs(KEYS) do
  local entries, at = call('XRANGE', log, '-', '+'), {}
  for place, raw in ipairs(entries) do
    if entry_of(raw).m == ARGV[1] then at[#at + 1] = place end
  end
  local first = at[1] and entry_of(entries[at[1]]) or {}
  answer[#answer + 1], answer[#answer + 2] = first.f or '', first.n or ''
  logs[i] = { entries = entries, at = at, frame = first.f or '' }
end
if ARGV[2] == '' then return answer end

for i, log in ipairs(logs) do
  if log.frame ~= ARGV[4 * i - 1] then return 0 end
end
for i, log in ipairs(logs) do
  local key, frame, ttl_ms = KEYS[i], ARGV[4 * i], call('PTTL', KEYS[i])
  for _, place in ipairs(log.at) do
    local fields = log.entries[place][2]
    for j = 1, #fields, 2 do
      if fields[j] == 'f' then fields[j + 1] = frame end
    end
  end
  -- A stream takes no entry below its last id, so the log is written again.
  call('DEL', key)
  for _, raw in ipairs(log.entries) do call('XADD', key, raw[1], unpack(raw[2])) end
  if ttl_ms > 0 then call('PEXPIRE', key, ttl_ms) end
  call(ARGV[2], ARGV[4 * i + 1], ARGV[4 * i + 2] .. '\n' .. frame)
end
return 1
